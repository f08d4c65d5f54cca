use diagnostics::Diagnostic;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::Sampling;

use crate::{
    fields::{number, stops},
    unsupported::unsupported,
};

/// Ollama's own defaults.
const TEMPERATURE: f32 = 0.8;
const TOP_K: u32 = 40;
const TOP_P: f32 = 0.9;

/// Ollama's `options`. What only says how a machine computes (`num_ctx`, `num_gpu`,
/// `num_thread`, …) is ignored: the queen decides it, and a prompt is never cut.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, ToSchema)]
pub struct OllamaOptions {
    /// 0 is greedy; absent, 0.8.
    pub temperature: Option<f64>,
    /// The k likeliest tokens, 0 keeps all; absent, 40.
    pub top_k: Option<i64>,
    /// 0 to 1; absent, 0.9.
    pub top_p: Option<f64>,
    /// 0 to 1; absent, 0.
    pub min_p: Option<f64>,
    /// Same seed, same text; absent or -1, drawn.
    pub seed: Option<i64>,
    /// Most tokens to generate, as far as the context leaves room; 0 and below, all of it.
    pub num_predict: Option<i64>,
    /// One text or a list of them that end the answer and are not part of it.
    pub stop: Option<Value>,
    /// Above 0; absent, 1, which is off: Ollama's own default looks back 64 tokens, rbee's
    /// penalty sees all of them.
    pub repeat_penalty: Option<f64>,
    /// With a penalty only 0 (no penalty) and -1 (all tokens).
    pub repeat_last_n: Option<i64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// Only 1, which is off.
    pub typical_p: Option<f64>,
    /// Only 1, which is off.
    pub tfs_z: Option<f64>,
    /// Only 0, which is off.
    pub mirostat: Option<i64>,
}

impl OllamaOptions {
    pub(super) fn sampling(&self) -> Result<Sampling, Diagnostic> {
        let repetition_penalty =
            number("options.repeat_penalty", self.repeat_penalty, 0.01, 100.0)?;
        let mut sampling = Sampling {
            temperature: number("options.temperature", self.temperature, 0.0, 100.0)?
                .unwrap_or(TEMPERATURE),
            top_p: number("options.top_p", self.top_p, 0.0, 1.0)?.unwrap_or(TOP_P),
            top_k: match self.top_k {
                None => TOP_K,
                // Whatever is not above 0 keeps all.
                Some(k) => u32::try_from(k).unwrap_or(0),
            },
            min_p: number("options.min_p", self.min_p, 0.0, 1.0)?.unwrap_or(0.0),
            repetition_penalty: repetition_penalty.unwrap_or(1.0),
            frequency_penalty: number(
                "options.frequency_penalty",
                self.frequency_penalty,
                -2.0,
                2.0,
            )?
            .unwrap_or(0.0),
            presence_penalty: number("options.presence_penalty", self.presence_penalty, -2.0, 2.0)?
                .unwrap_or(0.0),
            logit_bias: Vec::new(),
            seed: self.seed.filter(|seed| *seed != -1).map(i64::cast_unsigned),
            choice: 0,
        };
        self.refuse(&sampling)?;
        if self.repeat_last_n == Some(0) {
            sampling.repetition_penalty = 1.0;
            sampling.frequency_penalty = 0.0;
            sampling.presence_penalty = 0.0;
        }
        Ok(sampling)
    }

    /// What rbee cannot do and would change the answer.
    #[allow(
        clippy::float_cmp,
        reason = "the values that switch something off are exact"
    )]
    fn refuse(&self, sampling: &Sampling) -> Result<(), Diagnostic> {
        let penalised = sampling.repetition_penalty != 1.0
            || sampling.frequency_penalty != 0.0
            || sampling.presence_penalty != 0.0;
        for (name, asked) in [
            (
                "repeat_last_n",
                penalised && self.repeat_last_n.is_some_and(|n| n > 0),
            ),
            ("typical_p", self.typical_p.is_some_and(|p| p != 1.0)),
            ("tfs_z", self.tfs_z.is_some_and(|z| z != 1.0)),
            ("mirostat", self.mirostat.is_some_and(|kind| kind != 0)),
        ] {
            if asked {
                let error = unsupported(&format!("options.{name}"));
                return Err(match name {
                    "repeat_last_n" => error.hint("with a penalty, send -1: it sees all tokens"),
                    _ => error,
                });
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
