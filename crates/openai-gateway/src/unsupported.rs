use diagnostics::{Code, Diagnostic};
use serde_json::{Value, json};

use crate::Edge;

/// Fields that OpenAI has and rbee does not, each with the values that ask for nothing. Those
/// that cannot change what a model here answers (`store`, `service_tier`, `prediction`,
/// `reasoning_effort`, `verbosity`) are not among them.
fn known(edge: Edge) -> Vec<(&'static str, Vec<Value>)> {
    match edge {
        Edge::Chat => vec![
            ("functions", vec![json!([])]),
            ("function_call", vec![json!("none"), json!("auto")]),
            ("modalities", vec![json!(["text"])]),
            ("audio", vec![]),
            ("web_search_options", vec![]),
        ],
        Edge::Completion => vec![
            ("best_of", vec![json!(1)]),
            ("echo", vec![json!(false)]),
            ("suffix", vec![json!("")]),
        ],
    }
}

/// Refuses a body that asks for something that rbee cannot do.
pub(crate) fn refuse(edge: Edge, body: &Value) -> Result<(), Diagnostic> {
    for (name, harmless) in known(edge) {
        match body.get(name) {
            None | Some(Value::Null) => {}
            Some(value) if harmless.contains(value) => {}
            Some(_) => return Err(unsupported(name)),
        }
    }
    Ok(())
}

pub(crate) fn unsupported(param: &str) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedParameter,
        format!("`{param}` is not supported with this value"),
    )
    .param(param)
    .hint(format!("leave `{param}` out"))
}
