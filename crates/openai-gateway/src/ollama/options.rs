use diagnostics::Diagnostic;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{Sampling, limits};

use super::schemas::{UnsupportedOne, UnsupportedZero};
use crate::{
    errors::{penalty_window, unsupported},
    fields::{number, stops},
    schemas::StopSequences,
};

/// Ollama's own defaults.
const TEMPERATURE: f32 = 0.8;
const TOP_K: u32 = 40;
const TOP_P: f32 = 0.9;

/// Options of the model. Those that configure the engine (`num_ctx`, `num_gpu`, `num_thread`,
/// …) are ignored: the queen decides them. A prompt is never truncated.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, ToSchema)]
pub struct OllamaOptions {
    /// Sampling temperature, 0 to 100; 0 selects the most likely token (greedy). Default: 0.8.
    #[schema(minimum = 0, maximum = 100, default = 0.8)]
    pub temperature: Option<f64>,
    /// Keeps the k most likely tokens; 0 and below keep all. Default: 40.
    #[schema(default = 40)]
    pub top_k: Option<i64>,
    /// Keeps the smallest set of tokens whose probabilities reach this sum, 0 to 1.
    /// Default: 0.9.
    #[schema(minimum = 0, maximum = 1, default = 0.9)]
    pub top_p: Option<f64>,
    /// Keeps tokens at least this fraction as likely as the most likely one, 0 to 1.
    /// Default: 0.
    #[schema(minimum = 0, maximum = 1, default = 0)]
    pub min_p: Option<f64>,
    /// Seed of the sampler: the same request with the same seed produces the same output. Drawn
    /// at random if absent or -1.
    pub seed: Option<i64>,
    /// Maximum number of tokens to generate; the output also ends where the context does.
    /// Absent, 0 and below: no limit but the context.
    pub num_predict: Option<i64>,
    /// One stop sequence or an array of up to 16. The first one to occur ends the output and is
    /// not part of it.
    #[schema(value_type = Option<StopSequences>)]
    pub stop: Option<Value>,
    /// Divides the positive logits and multiplies the negative logits of tokens that occurred
    /// before, 0.01 to 100. Default: 1 (off). Ollama itself applies it to the last 64 tokens,
    /// rbee to all tokens.
    #[schema(minimum = 0.01, maximum = 100, default = 1)]
    pub repeat_penalty: Option<f64>,
    /// Number of tokens that penalties apply to. With a penalty, only -1 (all tokens, the
    /// default) and 0 (none) are supported.
    #[schema(default = -1)]
    pub repeat_last_n: Option<i64>,
    /// Subtracted from a token's logit for each time the token was generated, -2 to 2.
    /// Default: 0.
    #[schema(minimum = -2, maximum = 2, default = 0)]
    pub frequency_penalty: Option<f64>,
    /// Subtracted from a token's logit if the token was generated, -2 to 2. Default: 0.
    #[schema(minimum = -2, maximum = 2, default = 0)]
    pub presence_penalty: Option<f64>,
    /// Only 1 (off) is supported.
    #[schema(value_type = Option<UnsupportedOne>)]
    pub typical_p: Option<f64>,
    /// Only 1 (off) is supported.
    #[schema(value_type = Option<UnsupportedOne>)]
    pub tfs_z: Option<f64>,
    /// Only 0 (off) is supported.
    #[schema(value_type = Option<UnsupportedZero>)]
    pub mirostat: Option<i64>,
}

impl OllamaOptions {
    pub(super) fn sampling(&self) -> Result<Sampling, Diagnostic> {
        let repetition_penalty = number(
            "options.repeat_penalty",
            self.repeat_penalty,
            &limits::REPETITION_PENALTY,
        )?;
        let mut sampling = Sampling {
            temperature: number(
                "options.temperature",
                self.temperature,
                &limits::TEMPERATURE,
            )?
            .unwrap_or(TEMPERATURE),
            top_p: number("options.top_p", self.top_p, &limits::PROBABILITY)?.unwrap_or(TOP_P),
            top_k: self.top_k.map_or(TOP_K, |k| u32::try_from(k).unwrap_or(0)),
            min_p: number("options.min_p", self.min_p, &limits::PROBABILITY)?.unwrap_or(0.0),
            repetition_penalty: repetition_penalty.unwrap_or(1.0),
            frequency_penalty: number(
                "options.frequency_penalty",
                self.frequency_penalty,
                &limits::ADDITIVE_PENALTY,
            )?
            .unwrap_or(0.0),
            presence_penalty: number(
                "options.presence_penalty",
                self.presence_penalty,
                &limits::ADDITIVE_PENALTY,
            )?
            .unwrap_or(0.0),
            logit_bias: Vec::new(),
            seed: self.seed.filter(|seed| *seed != -1).map(i64::cast_unsigned),
            choice: 0,
        };
        self.refuse_unsupported(&sampling)?;
        if self.repeat_last_n == Some(0) {
            sampling.repetition_penalty = 1.0;
            sampling.frequency_penalty = 0.0;
            sampling.presence_penalty = 0.0;
        }
        Ok(sampling)
    }

    /// Refuses options that would change the output and are not implemented.
    #[allow(
        clippy::float_cmp,
        reason = "the values that turn an option off are exact"
    )]
    fn refuse_unsupported(&self, sampling: &Sampling) -> Result<(), Diagnostic> {
        let penalized = sampling.repetition_penalty != 1.0
            || sampling.frequency_penalty != 0.0
            || sampling.presence_penalty != 0.0;
        if penalized && self.repeat_last_n.is_some_and(|n| n > 0) {
            return Err(penalty_window());
        }
        for (param, enabled) in [
            (
                "options.typical_p",
                self.typical_p.is_some_and(|p| p != 1.0),
            ),
            ("options.tfs_z", self.tfs_z.is_some_and(|z| z != 1.0)),
            (
                "options.mirostat",
                self.mirostat.is_some_and(|mode| mode != 0),
            ),
        ] {
            if enabled {
                return Err(unsupported(param));
            }
        }
        Ok(())
    }

    pub(super) fn max_tokens(&self) -> Option<u32> {
        self.num_predict
            .filter(|n| *n > 0)
            .map(|n| u32::try_from(n).unwrap_or(u32::MAX))
    }

    pub(super) fn stop(&self) -> Result<Vec<String>, Diagnostic> {
        stops("options.stop", self.stop.as_ref())
    }
}
