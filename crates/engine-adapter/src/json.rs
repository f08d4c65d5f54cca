//! Fields of JSON documents.

use serde_json::Value;
use worker_contract::{TokenLogprob, TopLogprob};

pub(crate) fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn count(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

pub(crate) fn token_ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().into_iter().flatten();
    ids.filter_map(count).collect()
}

/// Returns the numbers of a vector, scaled to length 1. `None` if it has none.
pub(crate) fn unit_vector(value: &Value) -> Option<Vec<f32>> {
    let numbers = value.as_array()?.iter();
    let numbers: Vec<f64> = numbers.filter_map(Value::as_f64).collect();
    let length = numbers.iter().map(|n| n * n).sum::<f64>().sqrt();
    (length > 0.0).then(|| numbers.iter().map(|n| (n / length) as f32).collect())
}

/// Reads a log probability in the notation of OpenAI, with `id` if the engine adds it.
pub(crate) fn logprob(value: &Value) -> Option<TokenLogprob> {
    let number = value["logprob"].as_f64()? as f32;
    let top = value["top_logprobs"].as_array().into_iter().flatten();
    Some(TokenLogprob {
        token: text(value, "token"),
        bytes: bytes(value),
        logprob: number,
        top: top
            .filter_map(|top| {
                Some(TopLogprob {
                    id: count(&top["id"]).unwrap_or_default(),
                    token: text(top, "token"),
                    bytes: bytes(top),
                    logprob: top["logprob"].as_f64()? as f32,
                })
            })
            .collect(),
    })
}

fn bytes(value: &Value) -> Vec<u8> {
    match value["bytes"].as_array() {
        Some(bytes) => bytes
            .iter()
            .filter_map(|b| u8::try_from(b.as_u64()?).ok())
            .collect(),
        None => text(value, "token").into_bytes(),
    }
}
