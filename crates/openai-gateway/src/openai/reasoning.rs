use diagnostics::Diagnostic;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use worker_contract::ReasoningOptions;

use super::{limits::EFFORTS, schemas::ReasoningEffort};
use crate::{
    errors::{below_minimum, unknown_effort},
    fields::read,
};

/// Variables of chat templates that turn reasoning on and off. They are translated, because
/// their name depends on the model.
const SWITCHES: [&str; 2] = ["enable_thinking", "thinking"];

/// Fields of chat completions about reasoning.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, ToSchema)]
pub struct ReasoningFields {
    /// How much the model reasons: `none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`. A
    /// model uses the nearest level that it knows, and `x-rbee-notes` names it.
    #[schema(value_type = Option<ReasoningEffort>)]
    pub reasoning_effort: Option<String>,
    /// Extension: how the model reasons.
    #[serde(default, deserialize_with = "object")]
    pub reasoning: Option<ChatReasoning>,
    /// Extension: whether the model reasons. Default: as its chat template decides.
    pub enable_thinking: Option<bool>,
    /// Extension: maximum number of reasoning tokens, after which the model answers. With 0, it
    /// does not reason; -1 is no limit.
    #[schema(minimum = -1)]
    pub max_reasoning_tokens: Option<i64>,
    /// Extension: same as `max_reasoning_tokens`.
    #[schema(minimum = -1)]
    pub thinking_budget: Option<i64>,
    /// Extension: whether the response contains the reasoning. Default: true.
    #[schema(default = true)]
    pub include_reasoning: Option<bool>,
    /// Extension: variables of the model's chat template.
    #[schema(value_type = Option<Object>)]
    pub chat_template_kwargs: Option<Map<String, Value>>,
}

/// How the model reasons before it answers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, ToSchema)]
pub struct ChatReasoning {
    /// Whether the model reasons.
    pub enabled: Option<bool>,
    /// Same as `reasoning_effort`.
    #[schema(value_type = Option<ReasoningEffort>)]
    pub effort: Option<String>,
    /// Same as `max_reasoning_tokens`.
    #[schema(minimum = -1)]
    pub max_tokens: Option<i64>,
    /// Whether the response lacks the reasoning. Default: false.
    #[schema(default = false)]
    pub exclude: Option<bool>,
}

/// How the model reasons and what the client sees of it.
#[derive(Debug)]
pub(super) struct Reasoning {
    pub options: ReasoningOptions,
    pub template_variables: Map<String, Value>,
    /// Whether the response contains the reasoning.
    pub is_shown: bool,
}

pub(super) fn parse(body: &Value) -> Result<Reasoning, Diagnostic> {
    let fields: ReasoningFields = read(body)?;
    let object = fields.reasoning.unwrap_or_default();
    let mut template_variables = fields.chat_template_kwargs.unwrap_or_default();
    let mut enabled = fields.enable_thinking.or(object.enabled);
    for name in SWITCHES {
        if let Some(Value::Bool(value)) = template_variables.get(name) {
            enabled = enabled.or(Some(*value));
            template_variables.remove(name);
        }
    }
    let effort = effort("reasoning_effort", fields.reasoning_effort)?
        .or(self::effort("reasoning.effort", object.effort)?);
    let max_tokens = [
        ("max_reasoning_tokens", fields.max_reasoning_tokens),
        ("thinking_budget", fields.thinking_budget),
        ("reasoning.max_tokens", object.max_tokens),
    ]
    .into_iter()
    .find_map(|(param, value)| budget(param, value?).transpose())
    .transpose()?;
    Ok(Reasoning {
        options: ReasoningOptions {
            enabled,
            effort,
            max_tokens,
            ..ReasoningOptions::default()
        },
        template_variables,
        is_shown: fields.include_reasoning.unwrap_or(true) && !object.exclude.unwrap_or(false),
    })
}

/// Reads an object. Serde by itself reads a struct from an array as well.
fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ChatReasoning>, D::Error> {
    let fields = Option::<Map<String, Value>>::deserialize(deserializer)?;
    fields
        .map(|fields| serde_json::from_value(Value::Object(fields)).map_err(D::Error::custom))
        .transpose()
}

/// Returns the word for the effort, which may be `none`.
pub(crate) fn effort(param: &str, word: Option<String>) -> Result<Option<String>, Diagnostic> {
    match word {
        Some(word) if !EFFORTS.contains(&word.as_str()) => {
            Err(unknown_effort(param, &Value::String(word), &EFFORTS))
        }
        word => Ok(word),
    }
}

/// Returns a maximum number of tokens; `None` if there is no limit.
fn budget(param: &str, value: i64) -> Result<Option<u32>, Diagnostic> {
    match value {
        -1 => Ok(None),
        n if n >= 0 => Ok(Some(u32::try_from(n).unwrap_or(u32::MAX))),
        n => Err(below_minimum(param, 0, n)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_spelling_becomes_the_same_options() {
        let options = |enabled, effort: Option<&str>, max_tokens| ReasoningOptions {
            enabled,
            effort: effort.map(str::to_owned),
            max_tokens,
            ..ReasoningOptions::default()
        };
        for (body, expected) in [
            (json!({}), options(None, None, None)),
            (
                json!({"reasoning_effort": "high"}),
                options(None, Some("high"), None),
            ),
            (
                json!({"reasoning": {"effort": "low"}}),
                options(None, Some("low"), None),
            ),
            (
                json!({"reasoning_effort": null, "reasoning": null}),
                options(None, None, None),
            ),
            (
                json!({"enable_thinking": false}),
                options(Some(false), None, None),
            ),
            (
                json!({"chat_template_kwargs": {"enable_thinking": false}}),
                options(Some(false), None, None),
            ),
            (
                json!({"chat_template_kwargs": {"thinking": true}}),
                options(Some(true), None, None),
            ),
            (
                json!({"reasoning": {"enabled": true}}),
                options(Some(true), None, None),
            ),
            (
                json!({"max_reasoning_tokens": 7}),
                options(None, None, Some(7)),
            ),
            (json!({"thinking_budget": 0}), options(None, None, Some(0))),
            (json!({"thinking_budget": -1}), options(None, None, None)),
            (
                json!({"reasoning": {"max_tokens": 9}}),
                options(None, None, Some(9)),
            ),
        ] {
            let parsed = parse(&body).unwrap();
            assert_eq!(parsed.options, expected, "{body}");
            assert!(
                parsed.template_variables.is_empty() && parsed.is_shown,
                "{body}"
            );
        }
    }

    #[test]
    fn other_variables_reach_the_template() {
        let body = json!({"chat_template_kwargs": {"enable_thinking": true, "city": "Ghent"}});
        let parsed = parse(&body).unwrap();
        assert_eq!(
            Value::Object(parsed.template_variables),
            json!({"city": "Ghent"})
        );
    }

    #[test]
    fn reasoning_can_be_hidden() {
        for body in [
            json!({"include_reasoning": false}),
            json!({"reasoning": {"exclude": true}}),
        ] {
            assert!(!parse(&body).unwrap().is_shown, "{body}");
        }
    }

    #[test]
    fn impossible_values_name_their_field() {
        for (body, param) in [
            (json!({"reasoning_effort": ""}), "reasoning_effort"),
            (json!({"reasoning_effort": "bogus"}), "reasoning_effort"),
            (
                json!({"reasoning": {"effort": "x".repeat(33)}}),
                "reasoning.effort",
            ),
            (json!({"thinking_budget": -2}), "thinking_budget"),
            (
                json!({"reasoning": {"max_tokens": -2}}),
                "reasoning.max_tokens",
            ),
            (json!({"chat_template_kwargs": []}), "chat_template_kwargs"),
            (json!({"reasoning": [null, null]}), "reasoning"),
        ] {
            let error = parse(&body).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{body}");
        }
    }
}
