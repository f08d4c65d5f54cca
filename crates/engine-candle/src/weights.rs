use std::{borrow::Cow, collections::BTreeMap};

use candle_core::Device;
use cpu_kernels::{Threads, WeightMemory};
use diagnostics::{Code, Diagnostic, escape};
use model_format::{ElementType, Gguf, Safetensors, TensorType};

use crate::{
    architecture::{RotaryRows, unsupported},
    linear::Linear,
    matrix::{Matrix, to_floats},
    norm::Vector,
    rope::RopeFactors,
    tensor_names::{Part, TensorNames},
};

/// The factors by which GGUF files of Llama 3.1 slow rotary frequencies down.
const ROPE_FACTORS: &str = "rope_freqs.weight";
/// Those of Phi-3 for contexts up to the trained one, and for longer ones.
const SHORT_ROPE_FACTORS: &str = "rope_factors_short.weight";
const LONG_ROPE_FACTORS: &str = "rope_factors_long.weight";
/// Computed values that old safetensors files carry along.
const IGNORED_SUFFIX: &str = ".rotary_emb.inv_freq";

/// A tensor as it lies in the file.
#[derive(Debug, Clone)]
pub(crate) struct RawTensor<'a> {
    pub(crate) shape: Vec<u64>,
    pub(crate) kind: TensorType,
    pub(crate) data: &'a [u8],
}

/// The tensors of a model that are not yet taken, by name.
pub(crate) type RawTensors<'a> = BTreeMap<String, RawTensor<'a>>;

/// All tensors of a GGUF file.
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

/// All tensors of a safetensors file of these bytes.
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
                },
                data: file.get(range)?,
            };
            Some((name.clone(), tensor))
        })
        .collect()
}

/// Hands out the weights of a model one by one, each checked for its shape, and tells how
/// far loading is.
pub(crate) struct Weights<'a, 'p> {
    tensors: RawTensors<'a>,
    names: TensorNames,
    device: Device,
    threads: Threads,
    memory: WeightMemory,
    progress: &'p mut dyn FnMut(u64, u64),
    done: u64,
    total: u64,
}

impl<'a, 'p> Weights<'a, 'p> {
    /// `progress` is told the bytes done and their total.
    pub(crate) fn new(
        tensors: RawTensors<'a>,
        names: TensorNames,
        device: Device,
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

    /// A matrix of `rows` by `columns`.
    pub(crate) fn matrix(
        &mut self,
        part: Part,
        rows: u32,
        columns: u32,
    ) -> Result<Matrix, Diagnostic> {
        let (name, raw) = self.take(part.tensor_name(self.names), &[rows, columns])?;
        self.make_matrix(&name, &raw, raw.data)
    }

    /// A matrix of `rows` by `columns`, with a bias when it `has_bias`.
    pub(crate) fn linear(
        &mut self,
        part: Part,
        rows: u32,
        columns: u32,
        has_bias: bool,
    ) -> Result<Linear, Diagnostic> {
        self.ordered_linear(part, [rows, columns], has_bias, Cow::Borrowed)
    }

    /// The same where rows belong to `heads` heads that are rotated; comes back with the
    /// halves of each head apart, whatever the order in the file.
    pub(crate) fn rotary_linear(
        &mut self,
        part: Part,
        (heads, head_dim): (u32, u32),
        columns: u32,
        order: RotaryRows,
        has_bias: bool,
    ) -> Result<Linear, Diagnostic> {
        let shape = [heads.saturating_mul(head_dim), columns];
        self.ordered_linear(part, shape, has_bias, |data| match order {
            RotaryRows::Halves => Cow::Borrowed(data),
            RotaryRows::Pairs => Cow::Owned(halves_apart(data, heads as usize, head_dim as usize)),
        })
    }

    /// `ordered` puts the rows of the matrix, and of the bias, in another order.
    fn ordered_linear(
        &mut self,
        part: Part,
        shape: [u32; 2],
        has_bias: bool,
        ordered: impl Fn(&'a [u8]) -> Cow<'a, [u8]>,
    ) -> Result<Linear, Diagnostic> {
        let (name, raw) = self.take(part.tensor_name(self.names), &shape)?;
        let matrix = self.make_matrix(&name, &raw, &ordered(raw.data))?;
        let mut bias = None;
        if has_bias {
            let (name, raw) = self.take(part.bias_name(self.names), &shape[..1])?;
            let values = floats(&name, raw.kind, &ordered(raw.data))?;
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
        Matrix::new(
            raw.kind,
            size,
            data,
            &self.device,
            &self.memory,
            &self.threads,
        )
        .map_err(|e| Diagnostic::internal(format!("tensor `{}`: {e}", escape(name))))
    }

    /// A vector of `length` floats, each with `added`.
    pub(crate) fn vector(
        &mut self,
        part: Part,
        length: u32,
        added: f32,
    ) -> Result<Vector, Diagnostic> {
        let (name, raw) = self.take(part.tensor_name(self.names), &[length])?;
        let mut values = floats(&name, raw.kind, raw.data)?;
        for value in &mut values {
            *value += added;
        }
        self.make_vector(values)
    }

    fn make_vector(&self, values: Vec<f32>) -> Result<Vector, Diagnostic> {
        Vector::new(values, &self.device).map_err(Diagnostic::internal)
    }

    /// The factors of the rotary frequencies, where the file has some.
    pub(crate) fn rope_factors(&mut self) -> Result<RopeFactors, Diagnostic> {
        let mut taken = |name| {
            let raw = self.tensors.remove(name);
            raw.map(|raw| floats(name, raw.kind, raw.data)).transpose()
        };
        Ok(RopeFactors {
            any: taken(ROPE_FACTORS)?,
            short: taken(SHORT_ROPE_FACTORS)?,
            long: taken(LONG_ROPE_FACTORS)?,
        })
    }

    /// Passes over a part that this model has and does not use.
    pub(crate) fn skip(&mut self, part: Part) {
        self.tensors.remove(&part.tensor_name(self.names));
    }

    /// Refuses tensors that nobody took: leaving a weight out gives wrong answers.
    pub(crate) fn finish(self) -> Result<(), Diagnostic> {
        let mut rest = self
            .tensors
            .keys()
            .filter(|name| !name.ends_with(IGNORED_SUFFIX));
        if let Some(name) = rest.next() {
            return Err(unsupported(format!(
                "the tensor `{}` of this model",
                escape(name)
            )));
        }
        (self.progress)(self.total, self.total);
        Ok(())
    }

    fn take(&mut self, name: String, shape: &[u32]) -> Result<(String, RawTensor<'a>), Diagnostic> {
        let raw = self.tensors.remove(&name).ok_or_else(|| missing(&name))?;
        let shape: Vec<u64> = shape.iter().copied().map(u64::from).collect();
        if raw.shape != shape {
            return Err(wrong_shape(&name, &raw.shape, &shape));
        }
        self.done += raw.data.len() as u64;
        (self.progress)(self.done, self.total);
        Ok((name, raw))
    }
}

pub(crate) fn missing(name: &str) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!("the model has no tensor `{name}`"),
    )
    .hint("the file is incomplete, or not of the architecture that it says")
}

pub(crate) fn wrong_shape(name: &str, found: &[u64], expected: &[u64]) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!("tensor `{name}` has the shape {found:?}, expected {expected:?}"),
    )
    .hint("the sizes in the header do not belong to these weights")
}

fn floats(name: &str, kind: TensorType, data: &[u8]) -> Result<Vec<f32>, Diagnostic> {
    to_floats(kind, data).ok_or_else(|| {
        Diagnostic::new(
            Code::UnsupportedQuantization,
            format!(
                "tensor `{}` is of type {}, expected F32, F16 or BF16",
                escape(name),
                kind.name()
            ),
        )
        .hint("quantise the model again with a current converter")
    })
}

/// Reorders rows `(head, pair, half)` to `(head, half, pair)`. A row of any type is a whole
/// number of blocks, so its bytes move as they are.
fn halves_apart(data: &[u8], heads: usize, head_dim: usize) -> Vec<u8> {
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
    fn pairs_become_halves() {
        let rows = [0, 1, 2, 3, 10, 11, 12, 13];
        assert_eq!(halves_apart(&rows, 2, 4), [0, 2, 1, 3, 10, 12, 11, 13]);
    }
}
