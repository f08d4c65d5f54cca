use clap::ValueEnum;
use model_format::TensorType;

use crate::{
    sizes::Sizes,
    weights::{Role, Weight},
};

/// Quantization of a model.
///
/// `F32` to `Q8_0` and the types ending in `_M` are mixed as by llama.cpp's quantizer; `Q2_K` to
/// `Q6_K` are pure: every matrix has this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
#[value(rename_all = "verbatim")]
#[allow(non_camel_case_types, reason = "names of llama.cpp")]
pub enum Quantization {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    Q4_K_M,
    Q5_K_M,
}

impl Quantization {
    /// Name as in llama.cpp: `Q4_K_M`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q4_K_M => "Q4_K_M",
            Self::Q5_K_M => "Q5_K_M",
            other => other.base().name(),
        }
    }

    /// Number in `general.file_type`; pure types have none.
    pub(crate) fn file_type(self) -> Option<u32> {
        Some(match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q8_0 => 7,
            Self::Q5_0 => 8,
            Self::Q5_1 => 9,
            Self::Q4_K_M => 15,
            Self::Q5_K_M => 17,
            Self::BF16 => 32,
            Self::Q2_K | Self::Q3_K | Self::Q4_K | Self::Q5_K | Self::Q6_K => return None,
        })
    }

    /// Type of most matrices.
    pub(crate) fn base(self) -> TensorType {
        match self {
            Self::F32 => TensorType::F32,
            Self::F16 => TensorType::F16,
            Self::BF16 => TensorType::BF16,
            Self::Q4_0 => TensorType::Q4_0,
            Self::Q4_1 => TensorType::Q4_1,
            Self::Q5_0 => TensorType::Q5_0,
            Self::Q5_1 => TensorType::Q5_1,
            Self::Q8_0 => TensorType::Q8_0,
            Self::Q2_K => TensorType::Q2K,
            Self::Q3_K => TensorType::Q3K,
            Self::Q4_K | Self::Q4_K_M => TensorType::Q4K,
            Self::Q5_K | Self::Q5_K_M => TensorType::Q5K,
            Self::Q6_K => TensorType::Q6K,
        }
    }

    /// Whether safetensors can store this type.
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// Type of a weight in a GGUF file.
    pub(crate) fn type_of(self, weight: &Weight, sizes: &Sizes) -> TensorType {
        if weight.role == Role::Small {
            return TensorType::F32;
        }
        let preferred = match weight.role {
            _ if self.is_float() || self.is_pure() => self.base(),
            // The output matrix gets more bits, also if it is the embedding.
            Role::Output => output_type(self.base()),
            Role::Embedding if sizes.tied => output_type(self.base()),
            Role::Value(layer) | Role::Down(layer) if self.is_mixed() => {
                if has_more_bits(layer, sizes.layers) {
                    TensorType::Q6K
                } else {
                    self.base()
                }
            }
            _ => self.base(),
        };
        fallback(preferred, weight.columns())
    }

    fn is_pure(self) -> bool {
        self.file_type().is_none()
    }

    fn is_mixed(self) -> bool {
        matches!(self, Self::Q4_K_M | Self::Q5_K_M)
    }
}

fn output_type(base: TensorType) -> TensorType {
    match base {
        TensorType::Q8_0 => TensorType::Q8_0,
        _ => TensorType::Q6K,
    }
}

/// Whether llama.cpp's mixtures give a layer more bits: the first and the last eighth, and every
/// third layer between.
fn has_more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// Replaces a type whose blocks do not fill a row, as llama.cpp does.
fn fallback(preferred: TensorType, columns: usize) -> TensorType {
    if (columns as u64).is_multiple_of(preferred.block_size()) {
        return preferred;
    }
    let smaller = match preferred {
        TensorType::Q2K | TensorType::Q3K => TensorType::Q4_0,
        TensorType::Q4K => TensorType::Q5_0,
        TensorType::Q5K => TensorType::Q5_1,
        TensorType::Q6K => TensorType::Q8_0,
        other => other,
    };
    if (columns as u64).is_multiple_of(smaller.block_size()) {
        smaller
    } else {
        TensorType::F16
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{architecture::Architecture, sizes::Shape, weights::weights};

    fn tensors_by_type(shape: Shape, quantization: Quantization) -> BTreeMap<&'static str, usize> {
        let sizes = Sizes::of(shape, Architecture::Llama);
        let mut counts = BTreeMap::new();
        for weight in weights(Architecture::Llama, &sizes) {
            *counts
                .entry(quantization.type_of(&weight, &sizes).name())
                .or_default() += 1;
        }
        counts
    }

    /// Reference counts are from llama.cpp's quantizer, applied to F16 files of the same recipes.
    #[test]
    fn mixtures_equal_llama_cpp() {
        let of_1b = tensors_by_type(Shape::Llama32, Quantization::Q4_K_M);
        assert_eq!(
            of_1b,
            BTreeMap::from([("F32", 34), ("Q4_K", 96), ("Q6_K", 17)])
        );
        let of_135m = tensors_by_type(Shape::SmolLm2, Quantization::Q4_K_M);
        // Blocks of 256 fill rows of 1536 but not rows of 576.
        assert_eq!(
            of_135m,
            BTreeMap::from([
                ("F32", 61),
                ("Q4_K", 16),
                ("Q5_0", 166),
                ("Q6_K", 14),
                ("Q8_0", 15)
            ])
        );
        let simple = tensors_by_type(Shape::SmolLm2, Quantization::Q4_0);
        assert_eq!(
            simple,
            BTreeMap::from([("F32", 61), ("Q4_0", 210), ("Q8_0", 1)])
        );
    }

    #[test]
    fn pure_types_use_one_matrix_type() {
        let counts = tensors_by_type(Shape::Tiny, Quantization::Q5_K);
        assert_eq!(counts.keys().copied().collect::<Vec<_>>(), ["F32", "Q5_K"]);
    }
}
