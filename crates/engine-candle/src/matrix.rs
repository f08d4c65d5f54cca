use std::{borrow::Cow, sync::Arc};

use candle_core::{
    CpuStorage, CustomOp1, D, DType, Device, Layout, Result, Shape, Tensor,
    quantized::{GgmlDType, QMatMul, QStorage, QTensor},
};
use cpu_kernels::{Isa, PackedMatrix, Product, Threads, WeightMemory, multiply};
use half::{bf16, f16};
use model_format::TensorType;

use crate::{aligned::AlignedBytes, errors};

/// Largest magnitude of a 16-bit float.
const F16_MAX: f32 = 65504.0;
/// Added to mean squares, which may be zero.
const SMALLEST_SQUARE: f64 = 1e-30;

/// A weight matrix `[rows, columns]`.
///
/// Candle's own CPU products are not used on the CPU: for some types they select the kernel by the
/// number of rows in the batch, so that the result of a row depends on the batch, and their
/// threads spin.
#[derive(Clone)]
pub(crate) enum Matrix {
    /// In its stored type, for `cpu_kernels`.
    Cpu(Arc<CpuMatrix>),
    /// In its stored type, on the device.
    Quantized(QMatMul),
    /// Floats of 32 or 16 bits on the device.
    Floats(Tensor),
}

pub(crate) struct CpuMatrix {
    weights: PackedMatrix,
    threads: Threads,
}

impl Matrix {
    /// Creates a matrix for the kernels of the CPU from the bytes of a file.
    pub(crate) fn packed_for_cpu(
        kind: TensorType,
        size: (usize, usize),
        data: &[u8],
        memory: &WeightMemory,
        threads: &Threads,
    ) -> Result<Self> {
        let weights = PackedMatrix::new(kind, size, data, memory, threads)
            .map_err(candle_core::Error::wrap)?;
        Ok(Self::Cpu(Arc::new(CpuMatrix {
            weights,
            threads: threads.clone(),
        })))
    }

    /// Creates a matrix of tensors on a device from the bytes of a file. Quantized weights keep
    /// their type. 16-bit floats become F16, which holds BF16 exactly from 2^-14 on and to 2^-25
    /// below; a matrix with a weight beyond the range of F16 becomes F32.
    pub(crate) fn on_device(
        kind: TensorType,
        (rows, columns): (usize, usize),
        data: &[u8],
        device: &Device,
    ) -> Result<Self> {
        let values = rows.saturating_mul(columns) as u64;
        let whole_rows = (columns as u64).is_multiple_of(kind.block_size());
        if !whole_rows || values / kind.block_size() * kind.block_bytes() != data.len() as u64 {
            return Err(errors::matrix_size(kind, rows, columns, data.len()));
        }
        if let Some(dtype) = quantized_type(kind) {
            let aligned = AlignedBytes::copy(data);
            let storage = QStorage::from_data(Cow::Borrowed(aligned.as_slice()), device, dtype)?;
            let tensor = QTensor::new(storage, (rows, columns))?;
            return Ok(Self::Quantized(QMatMul::from_qtensor(tensor)?));
        }
        let floats = to_floats(kind, data).unwrap_or_default();
        let is_small = |value: &f32| value.abs() <= F16_MAX;
        let tensor = if kind != TensorType::F32 && floats.iter().all(is_small) {
            let halves: Vec<f16> = floats.into_iter().map(f16::from_f32).collect();
            Tensor::from_vec(halves, (rows, columns), device)?
        } else {
            Tensor::from_vec(floats, (rows, columns), device)?
        };
        Ok(Self::Floats(tensor))
    }

    /// Returns the matrix in the format of the CPU kernels.
    pub(crate) fn packed(&self) -> Result<&PackedMatrix> {
        match self {
            Self::Cpu(matrix) => Ok(&matrix.weights),
            Self::Quantized(_) | Self::Floats(_) => Err(errors::not_on_cpu()),
        }
    }

    /// Multiplies `x` of shape `[n, columns]` by the transposed matrix; returns `[n, rows]`.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Cpu(matrix) => x.apply_op1_no_bwd(&MatrixProduct(matrix)),
            Self::Quantized(matrix) => candle_core::Module::forward(matrix, x),
            Self::Floats(weights) if weights.dtype() == DType::F32 => x.matmul(&weights.t()?),
            Self::Floats(weights) => half_product(x, weights),
        }
    }

    /// Returns the rows with the given indices, of shape `[n, columns]`, as `f32`.
    pub(crate) fn rows(&self, indices: &Tensor) -> Result<Tensor> {
        match self {
            Self::Cpu(matrix) => indices.apply_op1_no_bwd(&Lookup(matrix)),
            Self::Quantized(matrix) => matrix.embedding(indices),
            Self::Floats(weights) => weights.index_select(indices, 0)?.to_dtype(DType::F32),
        }
    }
}

/// Multiplies by 16-bit weights. Each row is divided by its root mean square, since activations
/// may exceed the range of F16, and multiplied afterwards.
fn half_product(x: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let size = (x.sqr()?.mean_keepdim(D::Minus1)? + SMALLEST_SQUARE)?.sqrt()?;
    x.broadcast_div(&size)?
        .to_dtype(DType::F16)?
        .matmul(&weights.t()?)?
        .to_dtype(DType::F32)?
        .broadcast_mul(&size)
}

struct MatrixProduct<'a>(&'a CpuMatrix);

impl CustomOp1 for MatrixProduct<'_> {
    fn name(&self) -> &'static str {
        "matrix-product"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, columns) = layout.shape().dims2()?;
        let (begin, end) = layout
            .contiguous_offsets()
            .ok_or_else(errors::not_contiguous)?;
        let CpuMatrix { weights, threads } = self.0;
        if columns != weights.columns() || n == 0 {
            return Err(errors::operand_shape(n, columns, weights.columns()));
        }
        let x = &storage.as_slice::<f32>()?[begin..end];
        let mut out = vec![0.0; n * weights.rows()];
        let product = Product {
            matrix: weights,
            out: &mut out,
        };
        multiply(Isa::best(), threads, x, &mut [product]).map_err(candle_core::Error::wrap)?;
        Ok((CpuStorage::F32(out), (n, weights.rows()).into()))
    }
}

struct Lookup<'a>(&'a CpuMatrix);

impl CustomOp1 for Lookup<'_> {
    fn name(&self) -> &'static str {
        "row-lookup"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (begin, end) = layout
            .contiguous_offsets()
            .ok_or_else(errors::not_contiguous)?;
        let indices = &storage.as_slice::<u32>()?[begin..end];
        let weights = &self.0.weights;
        let mut out = vec![0.0; indices.len() * weights.columns()];
        copy_rows(weights, indices, &mut out)?;
        Ok((
            CpuStorage::F32(out),
            (indices.len(), weights.columns()).into(),
        ))
    }
}

/// Writes the rows with the given indices to `out` of shape `[indices, columns]`.
pub(crate) fn copy_rows(weights: &PackedMatrix, indices: &[u32], out: &mut [f32]) -> Result<()> {
    for (index, out) in indices.iter().zip(out.chunks_exact_mut(weights.columns())) {
        if !weights.row(*index as usize, out) {
            return Err(errors::missing_row(*index, weights.rows()));
        }
    }
    Ok(())
}

/// Converts a float tensor to `f32`; returns `None` for quantized types.
pub(crate) fn to_floats(kind: TensorType, data: &[u8]) -> Option<Vec<f32>> {
    let pairs = || data.chunks_exact(2).map(|b| [b[0], b[1]]);
    Some(match kind {
        TensorType::F32 => data
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        TensorType::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        TensorType::BF16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        _ => return None,
    })
}

/// Returns the type of candle for a quantized type, and nothing for floats.
fn quantized_type(kind: TensorType) -> Option<GgmlDType> {
    Some(match kind {
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => return None,
        TensorType::Q4_0 => GgmlDType::Q4_0,
        TensorType::Q4_1 => GgmlDType::Q4_1,
        TensorType::Q5_0 => GgmlDType::Q5_0,
        TensorType::Q5_1 => GgmlDType::Q5_1,
        TensorType::Q8_0 => GgmlDType::Q8_0,
        TensorType::Q2K => GgmlDType::Q2K,
        TensorType::Q3K => GgmlDType::Q3K,
        TensorType::Q4K => GgmlDType::Q4K,
        TensorType::Q5K => GgmlDType::Q5K,
        TensorType::Q6K => GgmlDType::Q6K,
    })
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::pseudo_random::PseudoRandom;

    const ROWS: usize = 37;
    const COLUMNS: usize = 512;

    fn random(seed: u64, count: usize) -> Vec<f32> {
        let mut random = PseudoRandom::new(seed);
        (0..count).map(|_| random.next()).collect()
    }

    /// The product of each type is close to that of its dequantized weights, and bit-identical
    /// batched and unbatched, with one thread and with several.
    #[test]
    fn products_of_every_type_are_accurate_and_reproducible() {
        let device = Device::Cpu;
        let tensor = |seed, rows| {
            Tensor::from_vec(random(seed, rows * COLUMNS), (rows, COLUMNS), &device).unwrap()
        };
        let (weights, x) = (tensor(1, ROWS), tensor(2, 70));
        for kind in TensorType::ALL {
            let dtype = quantized_type(*kind).unwrap_or(GgmlDType::F32);
            let stored = QTensor::quantize(&weights, dtype).unwrap();
            let data: Vec<u8> = match kind {
                TensorType::F16 => random(1, ROWS * COLUMNS)
                    .into_iter()
                    .flat_map(|v| f16::from_f32(v).to_le_bytes())
                    .collect(),
                TensorType::BF16 => random(1, ROWS * COLUMNS)
                    .into_iter()
                    .flat_map(|v| bf16::from_f32(v).to_le_bytes())
                    .collect(),
                _ => stored.data().unwrap().into_owned(),
            };
            let matrix = |threads| {
                let threads = Threads::new(threads).unwrap();
                let memory = WeightMemory::default();
                Matrix::packed_for_cpu(*kind, (ROWS, COLUMNS), &data, &memory, &threads).unwrap()
            };
            let one = matrix(1);
            let together = one.apply(&x).unwrap().to_vec2::<f32>().unwrap();
            let threaded = matrix(3).apply(&x).unwrap().to_vec2::<f32>().unwrap();
            assert!(together == threaded, "{kind:?}");
            for row in [0, 33, 69] {
                let alone = one.apply(&x.narrow(0, row, 1).unwrap()).unwrap();
                assert!(
                    alone.to_vec2::<f32>().unwrap()[0] == together[row],
                    "{kind:?}"
                );
            }

            let every = Tensor::arange(0, ROWS as u32, &device).unwrap();
            let dequantized = one.rows(&every).unwrap();
            let by_candle = stored.dequantize(&device).unwrap();
            let difference = (&by_candle - &dequantized).unwrap().abs().unwrap();
            let largest: f32 = difference.max_all().unwrap().to_scalar().unwrap();
            // Candle's tensor has `f32` weights where ours has 16-bit floats.
            let tolerance = if dtype == GgmlDType::F32 { 4e-3 } else { 1e-6 };
            assert!(largest < tolerance, "{kind:?}: {largest}");
            let expected = x.matmul(&dequantized.t().unwrap()).unwrap();
            let found = Tensor::new(together, &device).unwrap();
            let difference = (found - expected).unwrap().abs().unwrap();
            let largest: f32 = difference.max_all().unwrap().to_scalar().unwrap();
            // Products are around 2; activations have 8 bits for quantized weights.
            let tolerance = if dtype == GgmlDType::F32 { 1e-5 } else { 3e-2 };
            assert!(largest < tolerance, "{kind:?}: {largest}");

            // What other devices compute is close as well.
            let on_device = Matrix::on_device(*kind, (ROWS, COLUMNS), &data, &device).unwrap();
            let rows = on_device.rows(&every).unwrap();
            let difference = (&rows - &dequantized).unwrap().abs().unwrap();
            let largest: f32 = difference.max_all().unwrap().to_scalar().unwrap();
            assert!(largest < 1e-6, "{kind:?}: {largest}");
            let ours = one.apply(&x).unwrap();
            let difference = (on_device.apply(&x).unwrap() - ours)
                .unwrap()
                .abs()
                .unwrap();
            let largest: f32 = difference.max_all().unwrap().to_scalar().unwrap();
            let tolerance = match kind {
                TensorType::F32 => 1e-5,
                TensorType::F16 | TensorType::BF16 => 1e-2,
                _ => 0.05,
            };
            assert!(largest < tolerance, "{kind:?}: {largest}");
        }
    }

    /// On a device, activations and results beyond the range of F16 are computed all the same, as
    /// are rows of zeros.
    #[test]
    fn products_of_16_bit_floats_have_the_range_of_32_bits() {
        let halves = |value: f32| bf16::from_f32(value).to_le_bytes().repeat(4 * 32);
        for (weight, dtype) in [(2.0, DType::F16), (1e6, DType::F32)] {
            let data = halves(weight);
            let matrix = Matrix::on_device(TensorType::BF16, (4, 32), &data, &Device::Cpu).unwrap();
            let Matrix::Floats(tensor) = &matrix else {
                panic!("not floats");
            };
            assert_eq!(tensor.dtype(), dtype);
            for x in [0.0, 1e-9, 1.0, 1e6] {
                let row = Tensor::full(x as f32, (1, 32), &Device::Cpu).unwrap();
                let found = matrix.apply(&row).unwrap().to_vec2::<f32>().unwrap();
                let expected = bf16::from_f32(weight).to_f32() * 32.0 * x as f32;
                let difference = (found[0][0] - expected).abs();
                assert!(difference <= 1e-3 * expected, "{weight} {x}: {found:?}");
            }
        }
    }

    #[test]
    fn rejects_data_of_another_size() {
        let threads = Threads::new(1).unwrap();
        for (kind, size, bytes) in [
            (TensorType::F32, (2, 2), 15),
            (TensorType::Q8_0, (2, 33), 70),
            (TensorType::Q8_0, (1, 32), 33),
            // Two rows of 16 columns have the size of one block.
            (TensorType::Q8_0, (2, 16), 34),
        ] {
            let data = vec![0; bytes];
            let memory = WeightMemory::default();
            assert!(Matrix::packed_for_cpu(kind, size, &data, &memory, &threads).is_err());
            assert!(Matrix::on_device(kind, size, &data, &Device::Cpu).is_err());
        }
    }
}
