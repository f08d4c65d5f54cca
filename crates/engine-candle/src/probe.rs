//! Whether a device computes: kernels that were built for other GPUs fail, or return zeros.

use candle_core::{Device, Result, Tensor};
use model_format::TensorType;

use crate::{errors, matrix::Matrix};

const ROWS: usize = 64;
const COLUMNS: usize = 512;
/// Numbers of rows that are multiplied: one selects the kernel for a vector, many that for a
/// matrix.
const PRODUCTS: [usize; 2] = [1, 33];

/// Computes a few products with quantized and with 16-bit weights, whose result is known.
///
/// Errors: what is wrong, in words.
pub(crate) fn probe(device: &Device) -> std::result::Result<(), String> {
    for kind in [TensorType::Q8_0, TensorType::F16, TensorType::F32] {
        for rows in PRODUCTS {
            let found = product(kind, rows, device).map_err(|error| {
                format!("a product of {}: {}", kind.name(), errors::brief(&error))
            })?;
            // Each weight and each operand is one.
            let expected = COLUMNS as f32;
            let wrong = found
                .iter()
                .find(|value| (**value - expected).abs() > 0.01 * expected);
            if let Some(wrong) = wrong {
                let kind = kind.name();
                return Err(format!("a product of {kind} is {wrong}, not {expected}"));
            }
        }
    }
    Ok(())
}

fn product(kind: TensorType, rows: usize, device: &Device) -> Result<Vec<f32>> {
    let data = ones(kind);
    let matrix = Matrix::on_device(kind, (ROWS, COLUMNS), &data, device)?;
    let x = Tensor::ones((rows, COLUMNS), candle_core::DType::F32, device)?;
    matrix.apply(&x)?.flatten_all()?.to_vec1()
}

/// A matrix of ones.
fn ones(kind: TensorType) -> Vec<u8> {
    let count = ROWS * COLUMNS;
    match kind {
        TensorType::Q8_0 => {
            // 100 times a hundredth: blocks of 32 weights with a scale.
            let scale = half::f16::from_f32(0.01).to_le_bytes();
            let block = [scale.as_slice(), &[100; 32]].concat();
            block.repeat(count / 32)
        }
        TensorType::F16 => half::f16::ONE.to_le_bytes().repeat(count),
        _ => 1.0_f32.to_le_bytes().repeat(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_computes_passes() {
        probe(&Device::Cpu).unwrap();
    }
}
