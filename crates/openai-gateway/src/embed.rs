use diagnostics::Diagnostic;
use serde_json::Value;
use worker_contract::InferInput;

use crate::{
    errors::{must_be_a, too_many, too_many_dimensions},
    fields::limit,
};

/// Maximum number of inputs in one request.
pub(crate) const MAX_INPUTS: usize = 2048;

pub(crate) fn dimensions(value: Option<i64>) -> Result<Option<usize>, Diagnostic> {
    Ok(limit("dimensions", value)?.map(|n| n as usize))
}

/// Returns the inputs of a request: a string, an array of strings, token ids, or an array of
/// arrays of token ids.
pub(crate) fn inputs(value: &Value) -> Result<Vec<InferInput>, Diagnostic> {
    const PARAM: &str = "input";
    let form = || {
        must_be_a(
            PARAM,
            "a string, an array of strings, an array of token ids, or an array of such arrays",
        )
    };
    let inputs = match value {
        Value::String(text) => vec![InferInput::Prompt(text.clone())],
        Value::Array(items) if items.iter().all(Value::is_number) => {
            vec![tokens(value).ok_or_else(form)?]
        }
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::String(text) => Some(InferInput::Prompt(text.clone())),
                item => tokens(item),
            })
            .collect::<Option<_>>()
            .ok_or_else(form)?,
        _ => return Err(form()),
    };
    if inputs.len() > MAX_INPUTS {
        return Err(too_many(PARAM, "inputs", inputs.len(), MAX_INPUTS));
    }
    Ok(inputs)
}

fn tokens(value: &Value) -> Option<InferInput> {
    let ids = value.as_array().filter(|ids| !ids.is_empty())?;
    ids.iter()
        .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
        .collect::<Option<_>>()
        .map(InferInput::Tokens)
}

/// Truncates each vector to its first `dimensions` components and normalizes it again, as
/// models trained for smaller embeddings expect.
pub(crate) fn truncated(
    mut vectors: Vec<Vec<f32>>,
    dimensions: Option<usize>,
) -> Result<Vec<Vec<f32>>, Diagnostic> {
    let Some(dimensions) = dimensions else {
        return Ok(vectors);
    };
    for vector in &mut vectors {
        if dimensions > vector.len() {
            return Err(too_many_dimensions(dimensions, vector.len()));
        }
        vector.truncate(dimensions);
        let square: f64 = vector.iter().map(|n| f64::from(*n).powi(2)).sum();
        if square > 0.0 {
            let length = square.sqrt() as f32;
            for number in vector {
                *number /= length;
            }
        }
    }
    Ok(vectors)
}
