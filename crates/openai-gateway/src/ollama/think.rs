use diagnostics::Diagnostic;
use serde_json::Value;
use worker_contract::ReasoningOptions;

use crate::errors::must_be;

/// Levels of thinking. Ollama itself accepts no others.
const LEVELS: [&str; 3] = ["low", "medium", "high"];

/// Converts `think`. As in Ollama, a model that cannot think refuses a request to think.
pub(super) fn options(think: Option<&Value>) -> Result<ReasoningOptions, Diagnostic> {
    let (enabled, effort) = match think {
        None | Some(Value::Null) => return Ok(ReasoningOptions::default()),
        Some(Value::Bool(enabled)) => (*enabled, None),
        Some(Value::String(level)) if LEVELS.contains(&level.as_str()) => {
            (true, Some(level.clone()))
        }
        Some(_) => return Err(must_be("think", "true, false, `low`, `medium` or `high`")),
    };
    Ok(ReasoningOptions {
        enabled: Some(enabled),
        effort,
        required: enabled,
        ..ReasoningOptions::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn think_is_a_switch_or_a_level() {
        for (think, enabled, effort) in [
            (json!(null), None, None),
            (json!(false), Some(false), None),
            (json!(true), Some(true), None),
            (json!("high"), Some(true), Some("high")),
        ] {
            let options = options(Some(&think)).unwrap();
            assert_eq!(
                (options.enabled, options.effort.as_deref()),
                (enabled, effort)
            );
            assert_eq!(options.required, enabled == Some(true));
        }
        for think in [json!(1), json!("yes"), json!({})] {
            let error = options(Some(&think)).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("think"), "{think}");
        }
    }
}
