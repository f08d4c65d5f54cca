//! Splits tensors that fuse several matrices. The parts are slices of the file; nothing is copied.

use std::ops::Range;

use diagnostics::Diagnostic;
use model_format::{ModelHeader, WeightFormat};

use crate::{
    architecture::Architecture,
    errors,
    tensor_names::{ExpertPart, LayerPart, Part, TensorNames},
    weights::{RawTensor, RawTensors},
};

/// Replaces every fused tensor of a model by its parts.
pub(crate) fn split_fused_tensors<'a>(
    tensors: RawTensors<'a>,
    header: &ModelHeader,
    architecture: Architecture,
) -> Result<RawTensors<'a>, Diagnostic> {
    let names = architecture.tensor_names(header.format);
    let mut splitter = Splitter { tensors, names };
    for layer in 0..header.layers {
        if architecture.fused {
            splitter.split_projections(layer, header)?;
        }
        // Safetensors files store experts separately.
        if header.format == WeightFormat::Gguf {
            splitter.split_experts(layer, header)?;
        }
    }
    Ok(splitter.tensors)
}

struct Splitter<'a> {
    tensors: RawTensors<'a>,
    names: TensorNames,
}

impl Splitter<'_> {
    fn split_projections(&mut self, layer: u32, header: &ModelHeader) -> Result<(), Diagnostic> {
        let queries = u64::from(header.heads) * u64::from(header.head_dim);
        let keys = u64::from(header.kv_heads) * u64::from(header.head_dim);
        let inner = u64::from(header.feed_forward_length);
        let fused: [(_, &[_]); 2] = [
            (
                LayerPart::QueryKeyValue,
                &[
                    (LayerPart::Query, queries),
                    (LayerPart::Key, keys),
                    (LayerPart::Value, keys),
                ],
            ),
            (
                LayerPart::GateUp,
                &[(LayerPart::Gate, inner), (LayerPart::Up, inner)],
            ),
        ];
        for (whole, parts) in fused {
            let name = Part::Layer(layer, whole).tensor_name(self.names);
            let raw = self
                .tensors
                .remove(&name)
                .ok_or_else(|| errors::missing_tensor(&name))?;
            let rows = parts.iter().map(|(_, rows)| rows).sum();
            let expected = [rows, u64::from(header.embedding_length)];
            if raw.shape != expected {
                return Err(errors::wrong_shape(&name, &raw.shape, &expected));
            }
            let mut first = 0;
            for (part, rows) in parts {
                let slice = raw.rows(&name, first..first + rows)?;
                first += rows;
                let name = Part::Layer(layer, *part).tensor_name(self.names);
                self.tensors.insert(name, slice);
            }
        }
        Ok(())
    }

    fn split_experts(&mut self, layer: u32, header: &ModelHeader) -> Result<(), Diagnostic> {
        let Some(experts) = header.experts.as_ref().filter(|e| e.are_in(layer)) else {
            return Ok(());
        };
        let (count, inner) = (
            u64::from(experts.count),
            u64::from(experts.feed_forward_length),
        );
        let hidden = u64::from(header.embedding_length);
        for part in ExpertPart::ALL {
            let [rows, columns] = match part {
                ExpertPart::Gate | ExpertPart::Up => [inner, hidden],
                ExpertPart::Down => [hidden, inner],
            };
            let name = Part::Layer(layer, LayerPart::AllExperts(part)).tensor_name(self.names);
            let expert_name =
                |index| Part::Layer(layer, LayerPart::Expert(index, part)).tensor_name(self.names);
            let Some(mut raw) = self.tensors.remove(&name) else {
                // Old GGUF files store experts separately.
                if self.tensors.contains_key(&expert_name(0)) {
                    continue;
                }
                return Err(errors::missing_tensor(&name));
            };
            let expected = [count, rows, columns];
            if raw.shape != expected {
                return Err(errors::wrong_shape(&name, &raw.shape, &expected));
            }
            raw.shape = vec![count * rows, columns];
            for index in 0..experts.count {
                let first = u64::from(index) * rows;
                let slice = raw.rows(&name, first..first + rows)?;
                self.tensors.insert(expert_name(index), slice);
            }
        }
        Ok(())
    }
}

impl<'a> RawTensor<'a> {
    /// Returns a range of rows of a matrix. A row of any type is a whole number of blocks.
    fn rows(&self, name: &str, rows: Range<u64>) -> Result<RawTensor<'a>, Diagnostic> {
        let columns = self.shape.last().copied().unwrap_or(0);
        let row_bytes = columns / self.kind.block_size() * self.kind.block_bytes();
        let bytes = (rows.start * row_bytes) as usize..(rows.end * row_bytes) as usize;
        let data = self
            .data
            .get(bytes)
            .ok_or_else(|| errors::truncated_tensor(name))?;
        Ok(RawTensor {
            shape: vec![rows.end - rows.start, columns],
            kind: self.kind,
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;
    use model_format::TensorType;

    use super::*;

    #[test]
    fn rows_are_slices_of_whole_blocks() {
        let data: Vec<u8> = (0..=255).cycle().take(3 * 2 * 34).collect();
        let raw = RawTensor {
            shape: vec![3, 64],
            kind: TensorType::Q8_0,
            data: &data,
        };
        let rows = raw.rows("t", 1..3).unwrap();
        assert_eq!(rows.shape, [2, 64]);
        assert_eq!(rows.data, &data[68..]);
        let error = raw.rows("t", 2..4).unwrap_err();
        assert_eq!(error.code, Code::InvalidModelFile);
    }
}
