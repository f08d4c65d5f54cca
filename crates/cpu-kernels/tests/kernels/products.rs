use cpu_kernels::{Isa, PackedMatrix, Product, Threads, WeightMemory, multiply};
use half::{bf16, f16};
use model_format::TensorType;
use proptest::prelude::*;

use crate::random::Random;

/// Returns the offsets of the F16 values in a block.
fn halves(kind: TensorType) -> &'static [usize] {
    match kind {
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => &[],
        TensorType::Q4_0 | TensorType::Q5_0 | TensorType::Q8_0 => &[0],
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4K | TensorType::Q5K => &[0, 2],
        TensorType::Q2K => &[80, 82],
        TensorType::Q3K => &[108],
        TensorType::Q6K => &[208],
    }
}

/// Returns random weights: any quantized values and sub-block scales, and floats and F16 scales
/// from `float`.
fn weights(
    kind: TensorType,
    rows: usize,
    columns: usize,
    seed: u64,
    mut float: impl FnMut(&mut Random) -> f32,
) -> Vec<u8> {
    let mut random = Random::new(seed);
    match kind {
        TensorType::F32 => (0..rows * columns)
            .flat_map(|_| float(&mut random).to_le_bytes())
            .collect(),
        TensorType::F16 => (0..rows * columns)
            .flat_map(|_| f16::from_f32(float(&mut random)).to_le_bytes())
            .collect(),
        TensorType::BF16 => (0..rows * columns)
            .flat_map(|_| bf16::from_f32(float(&mut random)).to_le_bytes())
            .collect(),
        _ => {
            let size = kind.block_bytes() as usize;
            let blocks = rows * columns / kind.block_size() as usize;
            let mut out: Vec<u8> = (0..blocks * size).map(|_| random.next() as u8).collect();
            for block in out.chunks_exact_mut(size) {
                for &at in halves(kind) {
                    let value = f16::from_f32(float(&mut random));
                    block[at..at + 2].copy_from_slice(&value.to_le_bytes());
                }
            }
            out
        }
    }
}

fn pack(kind: TensorType, size: (usize, usize), data: &[u8]) -> PackedMatrix {
    let threads = Threads::new(1).unwrap();
    PackedMatrix::new(kind, size, data, &WeightMemory::default(), &threads).unwrap()
}

/// Multiplies on one thread.
fn product(isa: Isa, matrix: &PackedMatrix, x: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / matrix.columns() * matrix.rows()];
    let mut products = [Product {
        matrix,
        out: &mut out,
    }];
    multiply(isa, &Threads::new(1).unwrap(), x, &mut products).unwrap();
    out
}

/// Compares bits, except that any NaN equals any other.
fn same(a: &[f32], b: &[f32]) -> bool {
    let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// Returns the dot product by its definition and the largest rounding error allowed.
fn expected(kind: TensorType, w: &[f32], x: &[f32]) -> (f64, f64) {
    let block = kind.block_size() as usize;
    let mut sum = 0.0;
    let mut error = 0.0;
    for (k, (&w, &v)) in w.iter().zip(x).enumerate() {
        let (w, v) = (f64::from(w), f64::from(v));
        sum += w * v;
        // Sums of floats, and of scales and minima that cancel out.
        error += 2e-5 * (w * v).abs();
        if block > 1 {
            // Activations are rounded to 1/127 of the largest of their block.
            let x = &x[k / block * block..][..block];
            let largest = x.iter().fold(0.0, |m: f32, x| m.max(x.abs()));
            error += w.abs() * f64::from(largest) / 127.0 * 0.501 + 1e-5 * f64::from(largest);
        }
    }
    (sum, error + 1e-6)
}

fn kinds() -> impl Strategy<Value = TensorType> {
    prop::sample::select(TensorType::ALL)
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 150,
        ..ProptestConfig::default()
    }
}

/// Products of random matrices of every type equal the plain kernel's bit for bit and are close
/// to their definition.
pub fn products_are_accurate(isa: Isa) {
    proptest!(config(), |(
        kind in kinds(),
        rows in 1_usize..70,
        blocks in 1_usize..5,
        more in 0_usize..40,
        n in 1_usize..20,
        seed in 1_u64..,
    )| {
        let columns = blocks * kind.block_size() as usize
            + if kind.block_size() == 1 { more * 17 } else { 0 };
        let data = weights(kind, rows, columns, seed, Random::float);
        let matrix = pack(kind, (rows, columns), &data);
        let x = Random::new(seed ^ 0x5555).floats(n * columns);

        let found = product(isa, &matrix, &x);
        prop_assert!(same(&found, &product(Isa::Plain, &matrix, &x)), "{kind:?}");
        let mut w = vec![0.0; columns];
        for row in 0..rows {
            prop_assert!(matrix.row(row, &mut w));
            for (j, x) in x.chunks_exact(columns).enumerate() {
                let (expected, error) = expected(kind, &w, x);
                let found = f64::from(found[j * rows + row]);
                prop_assert!(
                    (found - expected).abs() <= error,
                    "{kind:?} {row} {j}: {found} {expected} {error}"
                );
            }
        }
    });
}

/// Infinite, NaN, huge and tiny values in a file and in activations.
pub fn products_of_untrusted_values_match_plain(isa: Isa) {
    proptest!(config(), |(
        kind in kinds(),
        rows in 1_usize..40,
        n in 1_usize..36,
        seed in 1_u64..,
        odd in prop::sample::select(&[
            f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 65504.0, -65504.0, 0.0, -0.0, 6e-8, 1e-38,
        ]),
    )| {
        let columns = 256;
        let data = weights(kind, rows, columns, seed, |random| {
            if random.next().is_multiple_of(40) { odd } else { random.float() }
        });
        let matrix = pack(kind, (rows, columns), &data);
        let mut random = Random::new(!seed);
        let x: Vec<f32> = (0..n * columns)
            .map(|_| if random.next().is_multiple_of(300) { odd } else { random.float() })
            .collect();
        let plain = product(Isa::Plain, &matrix, &x);
        prop_assert!(same(&product(isa, &matrix, &x), &plain), "{kind:?}");
    });
}

/// The largest quantized values, scales and activations of either sign do not saturate.
pub fn products_of_extremes_are_exact(isa: Isa) {
    let columns = 512;
    for &kind in TensorType::ALL {
        for byte in [0x00, 0x7f, 0x80, 0xff] {
            let size = kind.block_bytes() as usize;
            let mut data = vec![byte; 20 * columns / kind.block_size() as usize * size];
            for block in data.chunks_exact_mut(size) {
                for &at in halves(kind) {
                    block[at..at + 2].copy_from_slice(&f16::ONE.to_le_bytes());
                }
            }
            let matrix = pack(kind, (20, columns), &data);
            for sign in [1.0, -1.0] {
                let x: Vec<f32> = (0..columns)
                    .map(|k| if k % 3 == 0 { -127.0 } else { 127.0 } * sign)
                    .collect();
                let mut w = vec![0.0; columns];
                assert!(matrix.row(19, &mut w));
                let expected: f64 = w
                    .iter()
                    .zip(&x)
                    .map(|(w, x)| f64::from(*w) * f64::from(*x))
                    .sum();
                let plain = product(Isa::Plain, &matrix, &x);
                let found = f64::from(plain[19]);
                let is_close = (found - expected).abs() <= expected.abs() * 1e-5;
                // Floats with these bit patterns overflow.
                assert!(
                    is_close || kind.block_size() == 1,
                    "{kind:?} {byte}: {found} {expected}"
                );
                for found in product(isa, &matrix, &x.repeat(17)).chunks(20) {
                    assert!(same(found, &plain), "{kind:?} {byte}");
                }
            }
        }
    }
}

/// Results equal the plain kernel's bit for bit for any batch, any threads, and together with
/// other matrices.
pub fn products_ignore_batch_threads_and_other_matrices(isa: Isa) {
    let three = Threads::new(3).unwrap();
    let (rows, columns, n) = (150, 256, 70);
    let x = Random::new(9).floats(n * columns);
    let matrices: Vec<PackedMatrix> = TensorType::ALL
        .iter()
        .map(|&kind| {
            let data = weights(kind, rows, columns, 7, Random::float);
            let memory = WeightMemory::default();
            PackedMatrix::new(kind, (rows, columns), &data, &memory, &three).unwrap()
        })
        .collect();
    let mut together = vec![vec![0.0; n * rows]; matrices.len()];
    let mut products: Vec<Product<'_>> = matrices
        .iter()
        .zip(&mut together)
        .map(|(matrix, out)| Product { matrix, out })
        .collect();
    multiply(isa, &three, &x, &mut products).unwrap();
    for (matrix, together) in matrices.iter().zip(&together) {
        assert_eq!(together, &product(Isa::Plain, matrix, &x));
        for (begin, count) in [(0, 1), (69, 1), (3, 2), (20, 7), (1, 33)] {
            let x = &x[begin * columns..(begin + count) * columns];
            let alone = product(isa, matrix, x);
            assert_eq!(alone, together[begin * rows..(begin + count) * rows]);
        }
    }
}
