use std::fmt::Display;

use diagnostics::Diagnostic;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{ALL_TOKENS, Sampling, SamplingValues, limits};

use super::schemas::OllamaStop;
use crate::fields::{number, stops};

/// Options of the model. As in Ollama, null is the same as absent, the fraction of a number is cut
/// off where an integer is expected, and unknown options are ignored.
///
/// Of the sampling parameters, a model's own recommendation precedes the default. Options that
/// have no effect are named in the response header `x-rbee-notes`. A prompt is never truncated.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, ToSchema)]
#[serde(default)]
pub struct OllamaOptions {
    /// Sampling temperature, 0 to 100; 0 selects the most likely token (greedy). Default: 0.8.
    #[serde(deserialize_with = "float")]
    #[schema(minimum = 0, maximum = 100, default = 0.8)]
    pub temperature: Option<f64>,
    /// Keeps the k most likely tokens; 0 and below keep all. Default: 40.
    #[serde(deserialize_with = "integer")]
    #[schema(value_type = Option<f64>, default = 40)]
    pub top_k: Option<i64>,
    /// Keeps the smallest set of tokens whose probabilities reach this sum, 0 to 1.
    /// Default: 0.9.
    #[serde(deserialize_with = "float")]
    #[schema(minimum = 0, maximum = 1, default = 0.9)]
    pub top_p: Option<f64>,
    /// Keeps tokens at least this fraction as likely as the most likely one, 0 to 1.
    /// Default: 0.
    #[serde(deserialize_with = "float")]
    #[schema(minimum = 0, maximum = 1, default = 0)]
    pub min_p: Option<f64>,
    /// Keeps the tokens whose information is closest to the expected one, until their
    /// probabilities reach this sum, 0 to 1 (locally typical sampling). Default: 1 (off).
    #[serde(deserialize_with = "float")]
    #[schema(minimum = 0, maximum = 1, default = 1)]
    pub typical_p: Option<f64>,
    /// Seed of the sampler: the same request with the same seed produces the same output. Drawn
    /// at random if absent or -1.
    #[serde(deserialize_with = "integer")]
    #[schema(value_type = Option<f64>)]
    pub seed: Option<i64>,
    /// Maximum number of tokens to generate; the output also ends where the context does.
    /// Absent, 0 and below: no limit but the context.
    #[serde(deserialize_with = "integer")]
    #[schema(value_type = Option<f64>)]
    pub num_predict: Option<i64>,
    /// Up to 16 stop sequences of up to 1024 bytes. The first one to occur ends the output and is
    /// not part of it.
    #[serde(deserialize_with = "strings")]
    #[schema(value_type = Option<OllamaStop>)]
    pub stop: Option<Value>,
    /// Divides the positive logits and multiplies the negative logits of tokens that occurred
    /// in prompt or output, 0.01 to 100. Default: 1.1.
    #[serde(deserialize_with = "float")]
    #[schema(minimum = 0.01, maximum = 100, default = 1.1)]
    pub repeat_penalty: Option<f64>,
    /// Number of last tokens that penalties consider; 0 is none, -1 and below all. Default: 64.
    #[serde(deserialize_with = "integer")]
    #[schema(value_type = Option<f64>, default = 64)]
    pub repeat_last_n: Option<i64>,
    /// Subtracted from a token's logit for each time the token was generated, -2 to 2.
    /// Default: 0.
    #[serde(deserialize_with = "float")]
    #[schema(minimum = -2, maximum = 2, default = 0)]
    pub frequency_penalty: Option<f64>,
    /// Subtracted from a token's logit if the token was generated, -2 to 2. Default: 0.
    #[serde(deserialize_with = "float")]
    #[schema(minimum = -2, maximum = 2, default = 0)]
    pub presence_penalty: Option<f64>,
    /// Whether penalties apply to line breaks; they always do.
    #[serde(deserialize_with = "boolean")]
    pub penalize_newline: Option<bool>,
    /// Context length that the client expects. The worker has its own; a shorter one is named in
    /// a note.
    #[serde(deserialize_with = "integer")]
    #[schema(value_type = Option<f64>)]
    pub num_ctx: Option<i64>,
    /// Has no effect: a context is never shifted.
    #[serde(deserialize_with = "integer")]
    #[schema(value_type = Option<f64>)]
    pub num_keep: Option<i64>,
    /// Has no effect: Mirostat sampling is not available.
    #[serde(deserialize_with = "integer")]
    #[schema(value_type = Option<f64>)]
    pub mirostat: Option<i64>,
    /// Has no effect.
    #[serde(deserialize_with = "float")]
    pub mirostat_tau: Option<f64>,
    /// Has no effect.
    #[serde(deserialize_with = "float")]
    pub mirostat_eta: Option<f64>,
    /// Has no effect: tail-free sampling is not available.
    #[serde(deserialize_with = "float")]
    pub tfs_z: Option<f64>,
    /// Has no effect.
    #[serde(deserialize_with = "boolean")]
    pub numa: Option<bool>,
    /// Has no effect.
    #[serde(deserialize_with = "integer")]
    #[schema(value_type = Option<f64>)]
    pub num_batch: Option<i64>,
    /// Has no effect.
    #[serde(deserialize_with = "integer")]
    #[schema(value_type = Option<f64>)]
    pub num_gpu: Option<i64>,
    /// Has no effect.
    #[serde(deserialize_with = "integer")]
    #[schema(value_type = Option<f64>)]
    pub main_gpu: Option<i64>,
    /// Has no effect.
    #[serde(deserialize_with = "integer")]
    #[schema(value_type = Option<f64>)]
    pub num_thread: Option<i64>,
    /// Has no effect.
    #[serde(deserialize_with = "boolean")]
    pub use_mmap: Option<bool>,
    /// Has no effect.
    #[serde(deserialize_with = "boolean")]
    pub use_mlock: Option<bool>,
    /// Has no effect.
    #[serde(deserialize_with = "boolean")]
    pub low_vram: Option<bool>,
}

/// Values of Ollama's options that are absent.
pub(super) fn defaults() -> SamplingValues {
    SamplingValues {
        temperature: Some(0.8),
        top_k: Some(40),
        top_p: Some(0.9),
        repetition_penalty: Some(1.1),
        penalty_window: Some(64),
        ..SamplingValues::default()
    }
}

impl OllamaOptions {
    pub(super) fn sampling(&self) -> Result<Sampling, Diagnostic> {
        let window = |n: i64| match n {
            ..0 => ALL_TOKENS,
            n => u32::try_from(n).unwrap_or(ALL_TOKENS),
        };
        let values = SamplingValues {
            temperature: number(
                "options.temperature",
                self.temperature,
                &limits::TEMPERATURE,
            )?,
            top_p: number("options.top_p", self.top_p, &limits::PROBABILITY)?,
            top_k: self.top_k.map(|k| match k {
                ..0 => 0,
                k => u32::try_from(k).unwrap_or(u32::MAX),
            }),
            min_p: number("options.min_p", self.min_p, &limits::PROBABILITY)?,
            typical_p: number("options.typical_p", self.typical_p, &limits::PROBABILITY)?,
            repetition_penalty: number(
                "options.repeat_penalty",
                self.repeat_penalty,
                &limits::REPETITION_PENALTY,
            )?,
            frequency_penalty: number(
                "options.frequency_penalty",
                self.frequency_penalty,
                &limits::ADDITIVE_PENALTY,
            )?,
            presence_penalty: number(
                "options.presence_penalty",
                self.presence_penalty,
                &limits::ADDITIVE_PENALTY,
            )?,
            penalty_window: self.repeat_last_n.map(window),
        };
        Ok(Sampling {
            values,
            seed: self.seed.filter(|seed| *seed != -1).map(i64::cast_unsigned),
            ..Sampling::default()
        })
    }

    pub(super) fn max_tokens(&self) -> Option<u32> {
        count(self.num_predict)
    }

    pub(super) fn expected_context(&self) -> Option<u32> {
        count(self.num_ctx)
    }

    pub(super) fn stop(&self) -> Result<Vec<String>, Diagnostic> {
        stops("options.stop", self.stop.as_ref())
    }

    /// Returns sentences about options that have no effect.
    #[allow(
        clippy::float_cmp,
        reason = "the values that turn an option off are exact"
    )]
    pub(super) fn notes(&self) -> Vec<String> {
        let ignored = [
            (
                "sampling uses the other options",
                vec![
                    ("mirostat", self.mirostat.is_some_and(|mode| mode != 0)),
                    ("tfs_z", self.tfs_z.is_some_and(|z| z != 1.0)),
                ],
            ),
            (
                "penalties also apply to line breaks",
                vec![("penalize_newline", self.penalize_newline == Some(false))],
            ),
            (
                "a context is never shifted",
                vec![("num_keep", self.num_keep.is_some_and(|n| n != 0))],
            ),
            (
                "the worker decides how the model runs",
                vec![
                    ("numa", self.numa.is_some()),
                    ("num_batch", self.num_batch.is_some()),
                    ("num_gpu", self.num_gpu.is_some()),
                    ("main_gpu", self.main_gpu.is_some()),
                    ("num_thread", self.num_thread.is_some()),
                    ("use_mmap", self.use_mmap.is_some()),
                    ("use_mlock", self.use_mlock.is_some()),
                    ("low_vram", self.low_vram.is_some()),
                ],
            ),
        ];
        let notes = ignored.into_iter().filter_map(|(instead, options)| {
            let set: Vec<&str> = options
                .into_iter()
                .filter_map(|(name, is_set)| is_set.then_some(name))
                .collect();
            (!set.is_empty()).then(|| format!("ignored {}: {instead}", set.join(", ")))
        });
        notes.collect()
    }
}

fn count(value: Option<i64>) -> Option<u32> {
    value
        .filter(|n| *n > 0)
        .map(|n| u32::try_from(n).unwrap_or(u32::MAX))
}

/// Reads a number as Ollama does: the fraction is cut off.
fn integer<'de, D: Deserializer<'de>>(value: D) -> Result<Option<i64>, D::Error> {
    match Value::deserialize(value)? {
        Value::Null => Ok(None),
        // Saturates, as every number is accepted.
        Value::Number(n) => Ok(n.as_i64().or(n.as_f64().map(|float| float as i64))),
        _ => Err(wrong_type("an integer")),
    }
}

fn float<'de, D: Deserializer<'de>>(value: D) -> Result<Option<f64>, D::Error> {
    match Value::deserialize(value)? {
        Value::Null => Ok(None),
        Value::Number(n) => Ok(n.as_f64()),
        _ => Err(wrong_type("a number")),
    }
}

fn boolean<'de, D: Deserializer<'de>>(value: D) -> Result<Option<bool>, D::Error> {
    match Value::deserialize(value)? {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(flag)),
        _ => Err(wrong_type("a boolean")),
    }
}

fn strings<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    match Value::deserialize(value)? {
        Value::Null => Ok(None),
        value @ Value::Array(_) => Ok(Some(value)),
        _ => Err(wrong_type("an array of strings")),
    }
}

fn wrong_type<E: Error>(expected: impl Display) -> E {
    E::custom(format!("the option must be {expected}"))
}
