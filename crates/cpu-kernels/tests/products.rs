#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]
//! Products of every type, against plain ones and against their definition.

use cpu_kernels::{Isa, PackedMatrix, Product, Threads, WeightMemory, multiply};
use half::{bf16, f16};
use model_format::TensorType;
use proptest::prelude::*;

/// Reproducible numbers; the same generator as everybody's.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// About uniform in -1..1.
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Where the 16-bit floats of a block are.
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

/// Random weights: any integers, any small scales, and `scale` for the 16-bit ones.
fn weights(
    kind: TensorType,
    rows: usize,
    columns: usize,
    seed: u64,
    mut scale: impl FnMut(&mut Numbers) -> f32,
) -> Vec<u8> {
    let mut numbers = Numbers(seed | 1);
    match kind {
        TensorType::F32 => (0..rows * columns)
            .flat_map(|_| scale(&mut numbers).to_le_bytes())
            .collect(),
        TensorType::F16 => (0..rows * columns)
            .flat_map(|_| f16::from_f32(scale(&mut numbers)).to_le_bytes())
            .collect(),
        TensorType::BF16 => (0..rows * columns)
            .flat_map(|_| bf16::from_f32(scale(&mut numbers)).to_le_bytes())
            .collect(),
        _ => {
            let size = kind.block_bytes() as usize;
            let blocks = rows * columns / kind.block_size() as usize;
            let mut out: Vec<u8> = (0..blocks * size).map(|_| numbers.next() as u8).collect();
            for block in out.chunks_exact_mut(size) {
                for &at in halves(kind) {
                    let value = f16::from_f32(scale(&mut numbers));
                    block[at..at + 2].copy_from_slice(&value.to_le_bytes());
                }
            }
            out
        }
    }
}

fn products(isa: Isa, threads: &Threads, matrix: &PackedMatrix, x: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / matrix.columns() * matrix.rows()];
    let mut products = [Product {
        matrix,
        out: &mut out,
    }];
    multiply(isa, threads, x, &mut products).unwrap();
    out
}

/// The same bits; what is no number may be any such.
fn same(a: &[f32], b: &[f32]) -> bool {
    let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// The product by its definition, and the most that rounding may change it.
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
            // Activations are rounded to a 127th of the largest of their block.
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn all_instructions_give_the_same_bits_and_the_right_ones(
        kind in kinds(),
        rows in 1_usize..70,
        blocks in 1_usize..5,
        more in 0_usize..40,
        n in 1_usize..20,
        seed in 1_u64..,
    ) {
        let columns = blocks * kind.block_size() as usize
            + if kind.block_size() == 1 { more * 17 } else { 0 };
        let one = Threads::new(1).unwrap();
        let data = weights(kind, rows, columns, seed, Numbers::float);
        let matrix = PackedMatrix::new(kind, (rows, columns), &data, &WeightMemory::default(), &one).unwrap();
        let mut numbers = Numbers(seed ^ 0x5555 | 1);
        let x: Vec<f32> = (0..n * columns).map(|_| numbers.float()).collect();

        let plain = products(Isa::Plain, &one, &matrix, &x);
        let mut w = vec![0.0; columns];
        for row in 0..rows {
            prop_assert!(matrix.row(row, &mut w));
            for (j, x) in x.chunks_exact(columns).enumerate() {
                let (expected, error) = expected(kind, &w, x);
                let found = f64::from(plain[j * rows + row]);
                prop_assert!(
                    (found - expected).abs() <= error,
                    "{kind:?} {row} {j}: {found} {expected} {error}"
                );
            }
        }
        for isa in Isa::available() {
            prop_assert!(same(&products(isa, &one, &matrix, &x), &plain), "{kind:?} {isa:?}");
        }
    }

    #[test]
    fn anything_in_a_file_gives_the_same_bits_everywhere(
        kind in kinds(),
        rows in 1_usize..40,
        n in 1_usize..36,
        seed in 1_u64..,
        odd in prop::sample::select(&[
            f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 65504.0, -65504.0, 0.0, -0.0, 6e-8, 1e-38,
        ]),
    ) {
        let columns = 256;
        let one = Threads::new(1).unwrap();
        let data = weights(kind, rows, columns, seed, |numbers| {
            if numbers.next().is_multiple_of(40) { odd } else { numbers.float() }
        });
        let matrix = PackedMatrix::new(kind, (rows, columns), &data, &WeightMemory::default(), &one).unwrap();
        let mut numbers = Numbers(seed | 1);
        let x: Vec<f32> = (0..n * columns)
            .map(|_| if numbers.next().is_multiple_of(300) { odd } else { numbers.float() })
            .collect();
        let plain = products(Isa::Plain, &one, &matrix, &x);
        for isa in Isa::available() {
            prop_assert!(same(&products(isa, &one, &matrix, &x), &plain), "{kind:?} {isa:?}");
        }
    }
}

/// The largest integers, scales and activations of either sign: nothing saturates.
#[test]
fn extremes_are_exact() {
    let one = Threads::new(1).unwrap();
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
            let matrix =
                PackedMatrix::new(kind, (20, columns), &data, &WeightMemory::default(), &one)
                    .unwrap();
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
                let plain = products(Isa::Plain, &one, &matrix, &x);
                let found = f64::from(plain[19]);
                let many = x.repeat(17);
                let right = (found - expected).abs() <= expected.abs() * 1e-5;
                // Floats of these bits overflow.
                assert!(
                    right || kind.block_size() == 1,
                    "{kind:?} {byte}: {found} {expected}"
                );
                for isa in Isa::available() {
                    for found in products(isa, &one, &matrix, &many).chunks(20) {
                        assert!(same(found, &plain), "{kind:?} {isa:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn company_threads_and_other_matrices_change_no_bit() {
    let one = Threads::new(1).unwrap();
    let three = Threads::new(3).unwrap();
    let (rows, columns, n) = (150, 256, 70);
    let mut numbers = Numbers(9);
    let x: Vec<f32> = (0..n * columns).map(|_| numbers.float()).collect();
    let matrices: Vec<PackedMatrix> = TensorType::ALL
        .iter()
        .map(|&kind| {
            let data = weights(kind, rows, columns, 7, Numbers::float);
            PackedMatrix::new(
                kind,
                (rows, columns),
                &data,
                &WeightMemory::default(),
                &three,
            )
            .unwrap()
        })
        .collect();
    for isa in Isa::available() {
        let mut together = vec![vec![0.0; n * rows]; matrices.len()];
        let mut jobs: Vec<Product<'_>> = matrices
            .iter()
            .zip(&mut together)
            .map(|(matrix, out)| Product { matrix, out })
            .collect();
        multiply(isa, &three, &x, &mut jobs).unwrap();
        for (matrix, together) in matrices.iter().zip(&together) {
            for (begin, count) in [(0, 1), (69, 1), (3, 2), (20, 7), (1, 33)] {
                let x = &x[begin * columns..(begin + count) * columns];
                let alone = products(isa, &one, matrix, x);
                assert_eq!(alone, together[begin * rows..(begin + count) * rows]);
            }
        }
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let one = Threads::new(1).unwrap();
    for (kind, size, bytes) in [
        (TensorType::F32, (2, 2), 15),
        (TensorType::F32, (0, 2), 0),
        (TensorType::F32, (2, 0), 0),
        (TensorType::Q8_0, (2, 33), 70),
        (TensorType::Q8_0, (2, 16), 34),
        (TensorType::Q4K, (1, 128), 72),
        (TensorType::F16, (usize::MAX, usize::MAX), 4),
    ] {
        assert!(
            PackedMatrix::new(kind, size, &vec![0; bytes], &WeightMemory::default(), &one).is_err()
        );
    }
    let matrix = PackedMatrix::new(
        TensorType::F32,
        (3, 2),
        &[0; 24],
        &WeightMemory::default(),
        &one,
    )
    .unwrap();
    assert!(!matrix.row(3, &mut [0.0; 2]));
    assert!(!matrix.row(0, &mut [0.0; 3]));
    for (x, out) in [(3, 3), (2, 2), (4, 3)] {
        let mut out = vec![0.0; out];
        let mut jobs = [Product {
            matrix: &matrix,
            out: &mut out,
        }];
        assert!(multiply(Isa::Plain, &one, &vec![0.0; x], &mut jobs).is_err());
    }
}
