use std::{borrow::Cow, collections::BTreeMap};

use cpu_kernels::{Threads, WeightMemory};
use diagnostics::{Diagnostic, escape};
use model_format::{ElementType, Gguf, Safetensors, TensorType};

use crate::{
    architecture::RotaryLayout,
    device::ComputeDevice,
    errors,
    linear::Linear,
    matrix::{Matrix, to_floats},
    norm::Vector,
    rope::RopeFactors,
    tensor_names::{Part, TensorNames},
};

/// Divisors of the rotary frequencies in GGUF files of Llama 3.1.
const ROPE_FACTORS: &str = "rope_freqs.weight";
/// Divisors in GGUF files of Phi-3, for contexts up to the trained length and for longer ones.
const SHORT_ROPE_FACTORS: &str = "rope_factors_short.weight";
const LONG_ROPE_FACTORS: &str = "rope_factors_long.weight";
/// Derived values in old safetensors files.
const IGNORED_SUFFIX: &str = ".rotary_emb.inv_freq";

/// A tensor as stored in the file.
#[derive(Debug, Clone)]
pub(crate) struct RawTensor<'a> {
    pub(crate) shape: Vec<u64>,
    pub(crate) kind: TensorType,
    pub(crate) data: &'a [u8],
}

/// Tensors by name.
pub(crate) type RawTensors<'a> = BTreeMap<String, RawTensor<'a>>;

/// Returns the tensors of a GGUF file.
pub(crate) fn gguf_tensors<'a>(gguf: &Gguf<'a>) -> Result<RawTensors<'a>, Diagnostic> {
    gguf.tensors()
        .keys()
        .map(|name| {
            let (info, data) = gguf.tensor(name)?;
            let tensor = RawTensor {
                shape: info.shape.clone(),
                kind: info.kind,
                data,
            };
            Ok(((*name).to_owned(), tensor))
        })
        .collect()
}

/// Returns the tensors of a safetensors file; `file` is its complete content.
pub(crate) fn safetensors_tensors<'a>(header: &Safetensors, file: &'a [u8]) -> RawTensors<'a> {
    header
        .tensors()
        .iter()
        .filter_map(|(name, info)| {
            let range = info.offset as usize..(info.offset + info.bytes) as usize;
            let tensor = RawTensor {
                shape: info.shape.clone(),
                kind: match info.kind {
                    ElementType::F32 => TensorType::F32,
                    ElementType::F16 => TensorType::F16,
                    ElementType::BF16 => TensorType::BF16,
                    // Refused before.
                    ElementType::Foreign(_) => return None,
                },
                data: file.get(range)?,
            };
            Some((name.clone(), tensor))
        })
        .collect()
}

/// The weights of a model during loading. Each weight is taken once, which checks its shape and
/// reports progress.
pub(crate) struct Weights<'a, 'p> {
    tensors: RawTensors<'a>,
    names: TensorNames,
    device: ComputeDevice,
    threads: Threads,
    memory: WeightMemory,
    progress: &'p mut dyn FnMut(u64, u64),
    done: u64,
    total: u64,
}

impl<'a, 'p> Weights<'a, 'p> {
    /// `progress` is called with the bytes loaded and the total.
    pub(crate) fn new(
        tensors: RawTensors<'a>,
        names: TensorNames,
        device: ComputeDevice,
        threads: Threads,
        progress: &'p mut dyn FnMut(u64, u64),
    ) -> Self {
        let total = tensors.values().map(|t| t.data.len() as u64).sum();
        progress(0, total);
        Self {
            tensors,
            names,
            device,
            threads,
            memory: WeightMemory::default(),
            progress,
            done: 0,
            total,
        }
    }

    /// Takes a matrix of `rows` by `columns`.
    pub(crate) fn matrix(
        &mut self,
        part: Part,
        rows: u32,
        columns: u32,
    ) -> Result<Matrix, Diagnostic> {
        let (name, raw) = self.take(part.tensor_name(self.names), &[rows, columns])?;
        self.make_matrix(&name, &raw, raw.data)
    }

    /// Takes a linear layer with a matrix of `rows` by `columns`.
    pub(crate) fn linear(
        &mut self,
        part: Part,
        rows: u32,
        columns: u32,
        has_bias: bool,
    ) -> Result<Linear, Diagnostic> {
        self.reordered_linear(part, [rows, columns], has_bias, Cow::Borrowed)
    }

    /// Takes a linear layer whose output consists of `heads` heads that are rotated. The result has
    /// the layout [`RotaryLayout::Halves`], whatever the `layout` in the file.
    pub(crate) fn rotary_linear(
        &mut self,
        part: Part,
        (heads, head_dim): (u32, u32),
        columns: u32,
        layout: RotaryLayout,
        has_bias: bool,
    ) -> Result<Linear, Diagnostic> {
        let shape = [heads.saturating_mul(head_dim), columns];
        self.reordered_linear(part, shape, has_bias, |data| match layout {
            RotaryLayout::Halves => Cow::Borrowed(data),
            RotaryLayout::Interleaved => {
                Cow::Owned(deinterleaved(data, heads as usize, head_dim as usize))
            }
        })
    }

    /// Takes a linear layer; `reorder` permutes the rows of the matrix and of the bias.
    fn reordered_linear(
        &mut self,
        part: Part,
        shape: [u32; 2],
        has_bias: bool,
        reorder: impl Fn(&'a [u8]) -> Cow<'a, [u8]>,
    ) -> Result<Linear, Diagnostic> {
        let (name, raw) = self.take(part.tensor_name(self.names), &shape)?;
        let matrix = self.make_matrix(&name, &raw, &reorder(raw.data))?;
        let mut bias = None;
        if has_bias {
            let (name, raw) = self.take(part.bias_name(self.names), &shape[..1])?;
            let values = floats(&name, raw.kind, &reorder(raw.data))?;
            bias = Some(self.make_vector(values)?);
        }
        Ok(Linear { matrix, bias })
    }

    fn make_matrix(
        &self,
        name: &str,
        raw: &RawTensor<'_>,
        data: &[u8],
    ) -> Result<Matrix, Diagnostic> {
        let size = (raw.shape[0] as usize, raw.shape[1] as usize);
        if self.device.is_packed() {
            Matrix::packed_for_cpu(raw.kind, size, data, &self.memory, &self.threads)
        } else {
            Matrix::on_device(raw.kind, size, data, &self.device.candle())
        }
        .map_err(|e| errors::packing(name, &e))
    }

    /// Takes a vector of `length` floats and adds `offset` to each.
    pub(crate) fn vector(
        &mut self,
        part: Part,
        length: u32,
        offset: f32,
    ) -> Result<Vector, Diagnostic> {
        let (name, raw) = self.take(part.tensor_name(self.names), &[length])?;
        let mut values = floats(&name, raw.kind, raw.data)?;
        for value in &mut values {
            *value += offset;
        }
        self.make_vector(values)
    }

    fn make_vector(&self, values: Vec<f32>) -> Result<Vector, Diagnostic> {
        Vector::new(values, &self.device.candle()).map_err(|e| errors::vector(&e))
    }

    /// Takes the divisors of the rotary frequencies, if the file has any.
    pub(crate) fn rope_factors(&mut self) -> Result<RopeFactors, Diagnostic> {
        let mut take = |name| {
            let raw = self.tensors.remove(name);
            raw.map(|raw| floats(name, raw.kind, raw.data)).transpose()
        };
        Ok(RopeFactors {
            any: take(ROPE_FACTORS)?,
            short: take(SHORT_ROPE_FACTORS)?,
            long: take(LONG_ROPE_FACTORS)?,
        })
    }

    /// Drops a weight that the file may contain but the model does not use.
    pub(crate) fn skip(&mut self, part: Part) {
        self.tensors.remove(&part.tensor_name(self.names));
    }

    /// Rejects models with tensors that were not taken: ignoring a weight would produce wrong output.
    pub(crate) fn finish(self) -> Result<(), Diagnostic> {
        let mut rest = self
            .tensors
            .keys()
            .filter(|name| !name.ends_with(IGNORED_SUFFIX));
        if let Some(name) = rest.next() {
            return Err(errors::unsupported(format!(
                "the tensor `{}` of this model",
                escape(name)
            )));
        }
        (self.progress)(self.total, self.total);
        Ok(())
    }

    fn take(&mut self, name: String, shape: &[u32]) -> Result<(String, RawTensor<'a>), Diagnostic> {
        let raw = self
            .tensors
            .remove(&name)
            .ok_or_else(|| errors::missing_tensor(&name))?;
        let shape: Vec<u64> = shape.iter().copied().map(u64::from).collect();
        if raw.shape != shape {
            return Err(errors::wrong_shape(&name, &raw.shape, &shape));
        }
        self.done += raw.data.len() as u64;
        (self.progress)(self.done, self.total);
        Ok((name, raw))
    }
}

fn floats(name: &str, kind: TensorType, data: &[u8]) -> Result<Vec<f32>, Diagnostic> {
    to_floats(kind, data).ok_or_else(|| errors::not_a_float_tensor(name, kind))
}

/// Reorders rows from `(head, pair, half)` to `(head, half, pair)`. A row of any type is a whole
/// number of blocks, so its bytes are copied unchanged.
fn deinterleaved(data: &[u8], heads: usize, head_dim: usize) -> Vec<u8> {
    let row_bytes = data.len() / (heads * head_dim);
    let pairs = head_dim / 2;
    let mut out = Vec::with_capacity(data.len());
    for head in 0..heads {
        for half in 0..2 {
            for pair in 0..pairs {
                let row = head * head_dim + 2 * pair + half;
                out.extend_from_slice(&data[row * row_bytes..(row + 1) * row_bytes]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deinterleaves_each_head() {
        let rows = [0, 1, 2, 3, 10, 11, 12, 13];
        assert_eq!(deinterleaved(&rows, 2, 4), [0, 2, 1, 3, 10, 12, 11, 13]);
    }
}
