use std::io::Write;

use anyhow::Result;
use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor},
};
use half::{bf16, f16};
use model_format::TensorType;
use rayon::prelude::*;

use crate::weights::{Target, Weight};

/// Number of weights that a thread generates and encodes at a time.
const CHUNK: usize = 1 << 18;

/// Returns the size of an encoded weight in bytes.
pub(crate) fn encoded_bytes(weight: &Weight, target: Target, kind: TensorType) -> u64 {
    let count = (weight.rows(target) * weight.columns()) as u64;
    count / kind.block_size() * kind.block_bytes()
}

/// Generates, encodes and writes a weight in chunks of rows.
pub(crate) fn write_weight(
    weight: &Weight,
    seed: u64,
    target: Target,
    kind: TensorType,
    out: &mut impl Write,
) -> Result<()> {
    let rows = weight.rows(target);
    let chunk = (CHUNK / weight.columns()).max(1);
    let starts: Vec<usize> = (0..rows).step_by(chunk).collect();
    for starts in starts.chunks(rayon::current_num_threads()) {
        let chunks: Vec<Vec<u8>> = starts
            .par_iter()
            .map(|&start| {
                let rows = start..(start + chunk).min(rows);
                let mut numbers = Vec::with_capacity(rows.len() * weight.columns() + 1);
                for row in rows {
                    weight.row(seed, target, row, &mut numbers);
                }
                encode(&numbers, kind)
            })
            .collect::<Result<_>>()?;
        for chunk in chunks {
            out.write_all(&chunk)?;
        }
    }
    Ok(())
}

/// Encodes complete rows.
fn encode(numbers: &[f32], kind: TensorType) -> Result<Vec<u8>> {
    let dtype = match kind {
        TensorType::F32 => return Ok(numbers.iter().flat_map(|x| x.to_le_bytes()).collect()),
        TensorType::F16 => {
            let halves = numbers.iter().map(|x| f16::from_f32(*x).to_le_bytes());
            return Ok(halves.flatten().collect());
        }
        TensorType::BF16 => {
            let halves = numbers.iter().map(|x| bf16::from_f32(*x).to_le_bytes());
            return Ok(halves.flatten().collect());
        }
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
    let tensor = Tensor::from_slice(numbers, numbers.len(), &Device::Cpu)?;
    Ok(QTensor::quantize(&tensor, dtype)?.data()?.into_owned())
}
