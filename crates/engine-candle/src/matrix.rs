use std::{borrow::Cow, sync::Arc};

use candle_core::{
    CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, bail,
    quantized::{GgmlDType, QMatMul, QStorage, QTensor},
};
use cpu_kernels::{Isa, PackedMatrix, Product, Threads, WeightMemory, multiply};
use half::{bf16, f16};
use model_format::TensorType;

use crate::aligned::AlignedBytes;

/// A weight matrix `[rows, columns]` that stays in its stored type.
///
/// On the CPU candle's own products are not used: for some types they pick the kernel by
/// the number of rows in the batch, so that a row's result would depend on its company, and
/// their threads spin.
#[derive(Clone)]
pub(crate) enum Matrix {
    Cpu(Arc<CpuMatrix>),
    Device(QMatMul),
}

pub(crate) struct CpuMatrix {
    weights: PackedMatrix,
    threads: Threads,
}

impl Matrix {
    /// A matrix from the bytes of a file; on other devices than the CPU, 16-bit floats become
    /// 32-bit ones.
    pub(crate) fn new(
        kind: TensorType,
        (rows, columns): (usize, usize),
        data: &[u8],
        device: &Device,
        memory: &WeightMemory,
        threads: &Threads,
    ) -> Result<Self> {
        if device.is_cpu() {
            let weights = PackedMatrix::new(kind, (rows, columns), data, memory, threads)
                .map_err(candle_core::Error::wrap)?;
            return Ok(Self::Cpu(Arc::new(CpuMatrix {
                weights,
                threads: threads.clone(),
            })));
        }
        let values = rows.saturating_mul(columns) as u64;
        let whole_rows = (columns as u64).is_multiple_of(kind.block_size());
        if !whole_rows || values / kind.block_size() * kind.block_bytes() != data.len() as u64 {
            bail!(
                "{} bytes are not {rows} x {columns} {}",
                data.len(),
                kind.name()
            );
        }
        let (dtype, bytes) = storable(kind, data);
        let aligned = AlignedBytes::copy(&bytes);
        let storage = QStorage::from_data(Cow::Borrowed(aligned.as_slice()), device, dtype)?;
        let tensor = QTensor::new(storage, (rows, columns))?;
        Ok(Self::Device(QMatMul::from_qtensor(tensor)?))
    }

    /// The weights where the processor reads them.
    pub(crate) fn on_cpu(&self) -> Result<&PackedMatrix> {
        match self {
            Self::Cpu(matrix) => Ok(&matrix.weights),
            Self::Device(_) => bail!("the weights are on another device"),
        }
    }

    /// `x` of `[n, columns]` times the transposed matrix: `[n, rows]`.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Cpu(matrix) => x.apply_op1_no_bwd(&MatrixProduct(matrix)),
            Self::Device(matrix) => candle_core::Module::forward(matrix, x),
        }
    }

    /// The rows with the given numbers: `[n, columns]` in 32-bit floats.
    pub(crate) fn rows(&self, numbers: &Tensor) -> Result<Tensor> {
        match self {
            Self::Cpu(matrix) => numbers.apply_op1_no_bwd(&Lookup(matrix)),
            Self::Device(matrix) => matrix.embedding(numbers),
        }
    }
}

struct MatrixProduct<'a>(&'a CpuMatrix);

impl CustomOp1 for MatrixProduct<'_> {
    fn name(&self) -> &'static str {
        "matrix-product"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, columns) = layout.shape().dims2()?;
        let Some((begin, end)) = layout.contiguous_offsets() else {
            bail!("the operand of a matrix product is not contiguous");
        };
        let CpuMatrix { weights, threads } = self.0;
        if columns != weights.columns() || n == 0 {
            bail!("[{n}, {columns}] times {} columns", weights.columns());
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
        let Some((begin, end)) = layout.contiguous_offsets() else {
            bail!("row numbers are not contiguous");
        };
        let numbers = &storage.as_slice::<u32>()?[begin..end];
        let weights = &self.0.weights;
        let mut out = vec![0.0; numbers.len() * weights.columns()];
        look_up(weights, numbers, &mut out)?;
        Ok((
            CpuStorage::F32(out),
            (numbers.len(), weights.columns()).into(),
        ))
    }
}

/// Writes the rows with the given numbers to `out`, `[numbers, columns]`.
pub(crate) fn look_up(weights: &PackedMatrix, numbers: &[u32], out: &mut [f32]) -> Result<()> {
    for (number, out) in numbers.iter().zip(out.chunks_exact_mut(weights.columns())) {
        if !weights.row(*number as usize, out) {
            bail!("row {number} of a matrix of {}", weights.rows());
        }
    }
    Ok(())
}

/// The numbers of a tensor of floats, in 32-bit floats.
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

/// The type that is computed with, and the bytes in it.
fn storable(kind: TensorType, data: &[u8]) -> (GgmlDType, Cow<'_, [u8]>) {
    let dtype = match kind {
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => GgmlDType::F32,
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
    };
    match to_floats(kind, data) {
        // The kernels read numbers in the machine's own order.
        Some(floats) => (
            dtype,
            floats.into_iter().flat_map(f32::to_ne_bytes).collect(),
        ),
        None => (dtype, Cow::Borrowed(data)),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Module as _};

    use super::*;
    use crate::self_test::Numbers;

    const ROWS: usize = 37;
    const COLUMNS: usize = 512;

    fn numbers(seed: u64, count: usize) -> Vec<f32> {
        let mut numbers = Numbers::new(seed);
        (0..count).map(|_| numbers.next()).collect()
    }

    /// Every type gives about the product of its dequantised weights, and the same bits
    /// alone and in company, with one thread and with several.
    #[test]
    fn products_of_every_type_are_right() {
        let device = Device::Cpu;
        let tensor = |seed, rows| {
            Tensor::from_vec(numbers(seed, rows * COLUMNS), (rows, COLUMNS), &device).unwrap()
        };
        let (weights, x) = (tensor(1, ROWS), tensor(2, 70));
        for kind in TensorType::ALL {
            let (dtype, _) = storable(*kind, &[]);
            let stored = QTensor::quantize(&weights, dtype).unwrap();
            let data = match kind {
                TensorType::F16 => numbers(1, ROWS * COLUMNS)
                    .into_iter()
                    .flat_map(|v| f16::from_f32(v).to_le_bytes())
                    .collect(),
                TensorType::BF16 => numbers(1, ROWS * COLUMNS)
                    .into_iter()
                    .flat_map(|v| bf16::from_f32(v).to_le_bytes())
                    .collect(),
                _ => stored.data().unwrap().into_owned(),
            };
            let matrix = |threads| {
                let threads = Threads::new(threads).unwrap();
                Matrix::new(
                    *kind,
                    (ROWS, COLUMNS),
                    &data,
                    &device,
                    &WeightMemory::default(),
                    &threads,
                )
                .unwrap()
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
            let dequantised = one.rows(&every).unwrap();
            let theirs = stored.dequantize(&device).unwrap();
            let difference = (&theirs - &dequantised).unwrap().abs().unwrap();
            let largest: f32 = difference.max_all().unwrap().to_scalar().unwrap();
            // 16-bit floats are 32-bit ones there.
            let tolerance = if dtype == GgmlDType::F32 { 4e-3 } else { 1e-6 };
            assert!(largest < tolerance, "{kind:?}: {largest}");
            let expected = x.matmul(&dequantised.t().unwrap()).unwrap();
            let found = Tensor::new(together, &device).unwrap();
            let difference = (found - expected).unwrap().abs().unwrap();
            let largest: f32 = difference.max_all().unwrap().to_scalar().unwrap();
            // Products are around 2; activations have 8 bits unless weights are floats.
            let tolerance = if dtype == GgmlDType::F32 { 1e-5 } else { 3e-2 };
            assert!(largest < tolerance, "{kind:?}: {largest}");

            // What runs on other devices gives about the same.
            let theirs = QMatMul::from_qtensor(stored).unwrap().forward(&x).unwrap();
            let ours = one.apply(&x).unwrap().to_dtype(DType::F32).unwrap();
            let difference = (theirs - ours).unwrap().abs().unwrap();
            let largest: f32 = difference.max_all().unwrap().to_scalar().unwrap();
            assert!(largest < 0.05, "{kind:?}: {largest}");
        }
    }

    #[test]
    fn bytes_that_are_no_such_matrix_are_refused() {
        let threads = Threads::new(1).unwrap();
        for (kind, size, bytes) in [
            (TensorType::F32, (2, 2), 15),
            (TensorType::Q8_0, (2, 33), 70),
            (TensorType::Q8_0, (1, 32), 33),
            // Two rows of 16 would be one block of 32.
            (TensorType::Q8_0, (2, 16), 34),
        ] {
            let data = vec![0; bytes];
            assert!(
                Matrix::new(
                    kind,
                    size,
                    &data,
                    &Device::Cpu,
                    &WeightMemory::default(),
                    &threads
                )
                .is_err()
            );
        }
    }
}
