use diagnostics::Diagnostic;
use serde_json::{Value, json};

use super::endpoint::OpenAiEndpoint;
use crate::errors::unsupported;

/// Returns OpenAI's fields that rbee does not implement, each with the values that leave the
/// output unchanged. Fields that never change the output (`store`, `prediction`,
/// `verbosity`) are ignored and not listed.
fn unsupported_fields(endpoint: OpenAiEndpoint) -> Vec<(&'static str, Vec<Value>)> {
    match endpoint {
        OpenAiEndpoint::ChatCompletions => vec![
            ("functions", vec![json!([])]),
            ("function_call", vec![json!("none"), json!("auto")]),
            ("modalities", vec![json!(["text"])]),
            ("audio", vec![]),
            ("web_search_options", vec![]),
        ],
        OpenAiEndpoint::Completions => vec![
            ("best_of", vec![json!(1)]),
            ("echo", vec![json!(false)]),
            ("suffix", vec![json!("")]),
        ],
    }
}

/// Refuses a body with a field that would change the output and is not implemented.
pub(super) fn refuse_unsupported(endpoint: OpenAiEndpoint, body: &Value) -> Result<(), Diagnostic> {
    for (name, without_effect) in unsupported_fields(endpoint) {
        match body.get(name) {
            None | Some(Value::Null) => {}
            Some(value) if without_effect.contains(value) => {}
            Some(value) => return Err(unsupported(name, value)),
        }
    }
    Ok(())
}
