use std::io::Write;

use anyhow::Result;
use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor},
};
use half::{bf16, f16};
use model_format::TensorType;
use rayon::prelude::*;

use crate::weights::{Place, Weight};

/// Numbers that one thread makes and stores at a time.
const PIECE: usize = 1 << 18;

/// Bytes that a weight takes in that type.
pub(crate) fn encoded_bytes(weight: &Weight, place: Place, kind: TensorType) -> u64 {
    let numbers = (weight.rows(place) * weight.columns()) as u64;
    numbers / kind.block_size() * kind.block_bytes()
}

/// Makes a weight and writes it in that type, piece by piece.
pub(crate) fn write_weight(
    weight: &Weight,
    seed: u64,
    place: Place,
    kind: TensorType,
    out: &mut impl Write,
) -> Result<()> {
    let rows = weight.rows(place);
    let piece = (PIECE / weight.columns()).max(1);
    let starts: Vec<usize> = (0..rows).step_by(piece).collect();
    for starts in starts.chunks(rayon::current_num_threads()) {
        let pieces: Vec<Vec<u8>> = starts
            .par_iter()
            .map(|&start| {
                let rows = start..(start + piece).min(rows);
                let mut numbers = Vec::with_capacity(rows.len() * weight.columns() + 1);
                for row in rows {
                    weight.row(seed, place, row, &mut numbers);
                }
                encode(&numbers, kind)
            })
            .collect::<Result<_>>()?;
        for piece in pieces {
            out.write_all(&piece)?;
        }
    }
    Ok(())
}

/// Whole rows in that type.
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
