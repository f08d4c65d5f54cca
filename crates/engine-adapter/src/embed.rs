//! Embeddings.

use std::time::Duration;

use diagnostics::Diagnostic;
use inference_execution::requests::{
    Deadline, RequestEnd, empty_input, generation_expired, no_inputs,
};
use rest_client::RestClient;
use serde_json::{Value, json};
use worker_contract::{Capability, EmbedRequest, EmbedResponse, EngineKind, InferInput};

use crate::{
    adapter::Adapter,
    errors,
    json::{count, token_ids, unit_vector},
};

/// Time limit of short calls.
const LIMIT: Option<Duration> = Some(Duration::from_secs(30));

/// Computes embeddings. Dropping the future cancels the request.
pub(crate) async fn embed(
    adapter: &Adapter,
    request: EmbedRequest,
) -> Result<EmbedResponse, Diagnostic> {
    let id = request.request_id.clone();
    let computed = compute(adapter, request).await;
    computed.map_err(|error| error.correlation_id(id.as_str()))
}

async fn compute(adapter: &Adapter, request: EmbedRequest) -> Result<EmbedResponse, Diagnostic> {
    let alias = &adapter.settings().alias;
    if !adapter.facts().can(Capability::Embed) {
        return Err(errors::no_embeddings(alias));
    }
    let deadline = request
        .deadline
        .map(Deadline::from_wall_clock)
        .transpose()?;
    let limit = deadline.map(Deadline::remaining);
    let ticket = adapter.requests().accept(&request.request_id, None)?;
    let client = adapter.engine().client()?;
    let call = call(adapter, &client, &request);
    let result = match limit {
        Some(limit) => match tokio::time::timeout(limit, call).await {
            Ok(result) => result,
            Err(_) => Err(generation_expired()),
        },
        None => call.await,
    };
    let (vectors, prompt_tokens) = match result {
        Ok(computed) => computed,
        Err(error) => {
            ticket.end(RequestEnd::from(&error));
            return Err(error);
        }
    };
    ticket.end(RequestEnd::Completed);
    Ok(EmbedResponse {
        request_id: request.request_id,
        model: alias.clone(),
        vectors,
        prompt_tokens,
    })
}

/// Returns the vectors, and the number of tokens of the inputs.
async fn call(
    adapter: &Adapter,
    client: &RestClient,
    request: &EmbedRequest,
) -> Result<(Vec<Vec<f32>>, u32), Diagnostic> {
    if request.inputs.is_empty() {
        return Err(no_inputs());
    }
    let mut inputs = Vec::new();
    for input in &request.inputs {
        inputs.push(translated(adapter, client, input, request.truncate).await?);
    }
    let model = &adapter.facts().model;
    let (answer, rows, tokens): (Value, _, _) = if adapter.kind() == EngineKind::Ollama {
        let body = json!({"model": model, "input": inputs, "truncate": request.truncate,
            "keep_alive": -1});
        let answer: Value = client.post("/api/embed", &body, None).await?;
        let rows = answer["embeddings"].as_array().cloned().unwrap_or_default();
        let tokens = count(&answer["prompt_eval_count"]);
        (answer, rows, tokens)
    } else {
        let mut body = json!({"model": model, "input": inputs, "encoding_format": "float"});
        if request.truncate && adapter.kind() == EngineKind::Vllm {
            body["truncate_prompt_tokens"] = json!(-1);
        }
        let answer: Value = client.post("/v1/embeddings", &body, None).await?;
        let mut data = answer["data"].as_array().cloned().unwrap_or_default();
        data.sort_by_key(|row| row["index"].as_u64());
        let rows = data.iter().map(|row| row["embedding"].clone()).collect();
        let tokens = count(&answer["usage"]["prompt_tokens"]);
        (answer, rows, tokens)
    };
    let vectors: Vec<Vec<f32>> = rows.iter().filter_map(unit_vector).collect();
    if vectors.len() != request.inputs.len() {
        return Err(errors::unexpected(&answer.to_string()));
    }
    Ok((vectors, tokens.unwrap_or_default()))
}

async fn translated(
    adapter: &Adapter,
    client: &RestClient,
    input: &InferInput,
    truncate: bool,
) -> Result<Value, Diagnostic> {
    let takes_tokens = adapter.kind() != EngineKind::Ollama;
    match input {
        InferInput::Prompt(text) if text.is_empty() => Err(empty_input(input)),
        InferInput::Prompt(text) if truncate && adapter.kind() == EngineKind::LlamaCpp => {
            // The server does not truncate.
            let body = json!({"content": text, "add_special": true});
            let answer: Value = client.post("/tokenize", &body, LIMIT).await?;
            let mut tokens = token_ids(&answer["tokens"]);
            tokens.truncate(adapter.facts().context as usize);
            Ok(json!(tokens))
        }
        InferInput::Prompt(text) => Ok(json!(text)),
        InferInput::Tokens(tokens) if tokens.is_empty() => Err(empty_input(input)),
        InferInput::Tokens(tokens) if takes_tokens => Ok(json!(tokens)),
        InferInput::Tokens(_) => Err(adapter.unsupported("inputs of tokens", "inputs")),
        InferInput::Messages(_) => Err(errors::messages_as_input()),
    }
}
