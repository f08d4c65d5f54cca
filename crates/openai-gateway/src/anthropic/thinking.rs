use diagnostics::Diagnostic;
use openapi_schema::impl_schema;
use serde::Deserialize;
use serde_json::Value;
use worker_contract::ReasoningOptions;

use super::{
    limits::{EFFORTS, MIN_BUDGET},
    schemas::thinking,
};
use crate::errors::{below_minimum, missing, must_be, not_less, unknown_effort};

/// Whether the model thinks before it answers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct AnthropicThinking {
    /// `enabled`, `disabled` or `adaptive` (the model decides how much).
    #[serde(rename = "type")]
    pub kind: String,
    /// Maximum number of tokens for thinking; required with `enabled`. At least 1024, and less
    /// than `max_tokens`.
    pub budget_tokens: Option<i64>,
}

impl_schema! {
    AnthropicThinking, uses [],
    "Whether the model thinks before it answers: `enabled` (for at most `budget_tokens` tokens), \
     `disabled` or `adaptive` (the model decides how much).",
    thinking()
}

/// How the model thinks and what the client sees of it.
#[derive(Debug)]
pub(super) struct Thinking {
    pub options: ReasoningOptions,
    /// Whether the response contains the thoughts.
    pub is_shown: bool,
}

const BUDGET: &str = "thinking.budget_tokens";

/// Parses `thinking` and `output_config.effort`. `max_output` is the limit of the whole output,
/// if the request has one.
pub(super) fn parse(
    thinking: Option<&AnthropicThinking>,
    effort: Option<&Value>,
    max_output: Option<u32>,
) -> Result<Thinking, Diagnostic> {
    let effort = self::effort(effort)?;
    let Some(thinking) = thinking else {
        return Ok(Thinking {
            options: ReasoningOptions::default(),
            is_shown: false,
        });
    };
    let is_shown = match thinking.kind.as_str() {
        "enabled" | "adaptive" => true,
        "disabled" => false,
        _ => {
            return Err(must_be(
                "thinking.type",
                "`enabled`, `disabled` or `adaptive`",
            ));
        }
    };
    let max_tokens = match (thinking.kind.as_str(), thinking.budget_tokens) {
        ("enabled", None) => return Err(missing(BUDGET)),
        ("enabled", Some(n)) if n < MIN_BUDGET => {
            return Err(below_minimum(BUDGET, MIN_BUDGET, n));
        }
        ("enabled", Some(n)) if max_output.is_some_and(|max| n >= i64::from(max)) => {
            return Err(not_less(BUDGET, n, "max_tokens"));
        }
        ("enabled", Some(n)) => Some(u32::try_from(n).unwrap_or(u32::MAX)),
        _ => None,
    };
    Ok(Thinking {
        options: ReasoningOptions {
            enabled: Some(is_shown),
            effort: effort.filter(|_| is_shown).map(str::to_owned),
            max_tokens,
            ..ReasoningOptions::default()
        },
        is_shown,
    })
}

fn effort(value: Option<&Value>) -> Result<Option<&str>, Diagnostic> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(word)) if EFFORTS.contains(&word.as_str()) => Ok(Some(word)),
        Some(other) => Err(unknown_effort("output_config.effort", other, &EFFORTS)),
    }
}
