use diagnostics::Diagnostic;
use serde::Deserialize;

use crate::gguf::Gguf;

/// Rotations over the original context from which on YaRN keeps a frequency.
const YARN_BETA_FAST: f32 = 32.0;
/// Rotations over the original context up to which YaRN divides a frequency.
const YARN_BETA_SLOW: f32 = 1.0;

/// Scaling of rotary position embeddings beyond the training context.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// No scaling.
    None,
    /// Positions are divided by the factor.
    Linear {
        /// Divisor of positions.
        factor: f32,
    },
    /// Llama 3.1: low frequencies are divided by the factor, high ones kept.
    Llama3 {
        /// Divisor of low frequencies.
        factor: f32,
        /// Wavelengths longer than the original context divided by this are scaled.
        low_frequency_factor: f32,
        /// Wavelengths shorter than the original context divided by this are kept.
        high_frequency_factor: f32,
        /// Training context in tokens.
        original_context_length: u32,
    },
    /// YaRN: low frequencies are divided by the factor, high ones kept, with a linear transition
    /// over the dimensions of a head; attention scores are scaled up.
    Yarn {
        /// Divisor of low frequencies.
        factor: f32,
        /// Training context in tokens.
        original_context_length: u32,
        /// Rotations over the original context from which on a frequency is kept.
        beta_fast: f32,
        /// Rotations over the original context up to which a frequency is divided.
        beta_slow: f32,
        /// Whether the bounds of the transition are rounded to whole dimensions.
        whole_bounds: bool,
        /// Multiplier of rotated queries and keys.
        attention_factor: f32,
    },
    /// LongRoPE: each frequency has its own divisor, from one list for short contexts and another
    /// for long ones.
    LongRope {
        /// Maximum context for the short factors, in tokens.
        original_context_length: u32,
        /// Multiplier of rotated queries and keys.
        attention_factor: f32,
        /// The divisors; `None` if the file stores them as tensors.
        factors: Option<LongRopeFactors>,
    },
    /// Unknown type, by name.
    Other(String),
}

/// Divisors of [`RopeScaling::LongRope`], one per frequency.
#[derive(Debug, Clone, PartialEq)]
pub struct LongRopeFactors {
    /// For contexts up to the original context.
    pub short: Vec<f32>,
    /// For longer contexts.
    pub long: Vec<f32>,
}

/// Names of the tensors with the LongRoPE divisors in GGUF files: short, long.
const FACTOR_TENSORS: [&str; 2] = ["rope_factors_short.weight", "rope_factors_long.weight"];

impl RopeScaling {
    /// Returns the context length of a model that declares `declared` tokens: configurations with
    /// YaRN often still declare the training context.
    pub(crate) fn context_length(&self, declared: u32) -> u32 {
        match self {
            Self::Yarn {
                factor,
                original_context_length,
                ..
            } => declared.max((*original_context_length as f32 * factor) as u32),
            _ => declared,
        }
    }

    pub(crate) fn from_gguf(
        gguf: &Gguf<'_>,
        architecture: &str,
        context_length: u32,
    ) -> Result<Self, Diagnostic> {
        let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
        let float = |name: &str| gguf.f32(&key(name));
        let old_factor = gguf.f32(&format!("{architecture}.rope.scale_linear"))?;
        let factor = float("factor")?.or(old_factor).filter(|f| *f != 0.0);
        if FACTOR_TENSORS
            .iter()
            .all(|name| gguf.tensors().contains_key(name))
        {
            let original = gguf.u32(&key("original_context_length"))?;
            return Ok(Self::LongRope {
                original_context_length: original.unwrap_or(context_length),
                attention_factor: float("attn_factor")?.unwrap_or(1.0),
                factors: None,
            });
        }
        // A factor without a type means linear scaling.
        let kind = gguf.string(&key("type"))?.unwrap_or("linear");
        Ok(match (kind, factor) {
            ("none", _) | ("linear", None) => Self::None,
            ("linear", Some(factor)) => Self::Linear { factor },
            ("yarn", factor) => {
                // Ignoring one of these would change the results.
                for (name, neutral) in [
                    ("yarn_log_multiplier", 0.0),
                    ("yarn_ext_factor", 1.0),
                    ("yarn_attn_factor", 1.0),
                ] {
                    if float(name)?.is_some_and(|value| value != neutral) {
                        return Ok(Self::Other(format!("yarn with {name}")));
                    }
                }
                let factor = factor.unwrap_or(1.0);
                let trained = gguf.u32(&key("original_context_length"))?;
                Self::Yarn {
                    factor,
                    original_context_length: trained.unwrap_or(context_length),
                    beta_fast: float("yarn_beta_fast")?.unwrap_or(YARN_BETA_FAST),
                    beta_slow: float("yarn_beta_slow")?.unwrap_or(YARN_BETA_SLOW),
                    whole_bounds: true,
                    // GGUF's factor multiplies YaRN's own; Hugging Face's replaces it.
                    attention_factor: yarn_attention_scale(factor, 1.0)
                        * float("attn_factor")?.unwrap_or(1.0),
                }
            }
            (other, _) => Self::Other(other.to_owned()),
        })
    }
}

/// YaRN's multiplier of rotated queries and keys.
fn yarn_attention_scale(factor: f32, weight: f32) -> f32 {
    if factor <= 1.0 {
        1.0
    } else {
        0.1 * weight * factor.ln() + 1.0
    }
}

/// `rope_scaling` or `rope_parameters` of a `config.json`.
#[derive(Deserialize)]
pub(crate) struct RopeConfig {
    // Files for older versions of transformers have both spellings.
    rope_type: Option<String>,
    #[serde(rename = "type")]
    old_type: Option<String>,
    #[serde(rename = "rope_theta")]
    pub(crate) theta: Option<f32>,
    pub(crate) partial_rotary_factor: Option<f32>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<u32>,
    beta_fast: Option<f32>,
    beta_slow: Option<f32>,
    attention_factor: Option<f32>,
    mscale: Option<f32>,
    mscale_all_dim: Option<f32>,
    truncate: Option<bool>,
    short_factor: Option<Vec<f32>>,
    long_factor: Option<Vec<f32>>,
    /// Present in families with separate settings for windowed layers.
    full_attention: Option<Box<RopeConfig>>,
    sliding_attention: Option<Box<RopeConfig>>,
}

impl RopeConfig {
    /// Settings of the layers with full attention.
    pub(crate) fn of_full_layers(&self) -> &Self {
        self.full_attention.as_deref().unwrap_or(self)
    }

    pub(crate) fn theta_of_windowed_layers(&self) -> Option<f32> {
        self.sliding_attention.as_ref().and_then(|rope| rope.theta)
    }

    /// `trained` is the training context, if the file declares it outside of this object.
    pub(crate) fn scaling(&self, context_length: u32, trained: Option<u32>) -> RopeScaling {
        let kind = self.rope_type.as_deref().or(self.old_type.as_deref());
        let kind = kind.unwrap_or("default");
        let trained = self.original_max_position_embeddings.or(trained);
        if let (Some(short), Some(long)) = (&self.short_factor, &self.long_factor)
            && ["longrope", "su", "yarn"].contains(&kind)
        {
            return self.long_rope(short, long, context_length, trained);
        }
        match (kind, self.factor) {
            ("default", _) => RopeScaling::None,
            ("linear", Some(factor)) => RopeScaling::Linear { factor },
            ("llama3", Some(factor)) => RopeScaling::Llama3 {
                factor,
                low_frequency_factor: self.low_freq_factor.unwrap_or(1.0),
                high_frequency_factor: self.high_freq_factor.unwrap_or(4.0),
                original_context_length: trained.unwrap_or(8192),
            },
            ("yarn", factor) => {
                let trained = trained.unwrap_or(context_length);
                let factor = factor.unwrap_or(context_length as f32 / trained as f32);
                RopeScaling::Yarn {
                    factor,
                    original_context_length: trained,
                    beta_fast: self.beta_fast.unwrap_or(YARN_BETA_FAST),
                    beta_slow: self.beta_slow.unwrap_or(YARN_BETA_SLOW),
                    whole_bounds: self.truncate.unwrap_or(true),
                    attention_factor: self.yarn_attention_factor(factor),
                }
            }
            _ => RopeScaling::Other(kind.to_owned()),
        }
    }

    fn long_rope(
        &self,
        short: &[f32],
        long: &[f32],
        context_length: u32,
        trained: Option<u32>,
    ) -> RopeScaling {
        let stretched = trained.map(|trained| context_length as f32 / trained as f32);
        let original = trained.unwrap_or(context_length);
        let factor = stretched.or(self.factor).unwrap_or(1.0);
        let by_length = || (1.0 + factor.ln() / (original as f32).ln()).sqrt();
        RopeScaling::LongRope {
            original_context_length: original,
            attention_factor: match self.attention_factor {
                Some(given) => given,
                None if factor <= 1.0 => 1.0,
                None => by_length(),
            },
            factors: Some(LongRopeFactors {
                short: short.to_vec(),
                long: long.to_vec(),
            }),
        }
    }

    fn yarn_attention_factor(&self, factor: f32) -> f32 {
        let given = |value: Option<f32>| value.filter(|v| *v != 0.0);
        match (
            self.attention_factor,
            given(self.mscale),
            given(self.mscale_all_dim),
        ) {
            (Some(factor), _, _) => factor,
            (None, Some(weight), Some(of_all)) => {
                yarn_attention_scale(factor, weight) / yarn_attention_scale(factor, of_all)
            }
            _ => yarn_attention_scale(factor, 1.0),
        }
    }
}
