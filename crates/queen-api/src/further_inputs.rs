//! The inputs of a request after the first. An invalid one is found before the response begins,
//! while the output of the first could be streamed already.

use diagnostics::{Code, Diagnostic};
use http::HeaderMap;
use input_validation::ModelRef;
use openai_gateway::ResponseFormat;
use serde_json::Map;
use tokio::time::timeout;
use worker_contract::{InferInput, ReasoningOptions, TokenizeRequest, WorkerClient};

use crate::{Api, inference::short_call};

/// Checks inputs. An error comes with the index of its input in the request.
///
/// A stream does not wait longer than the grace for it, because its headers would.
pub(crate) async fn check(
    api: &Api,
    headers: &HeaderMap,
    model: &ModelRef,
    further: &[InferInput],
    format: ResponseFormat,
) -> Result<(), (usize, Diagnostic)> {
    let checks = async {
        for (index, input) in (1..).zip(further) {
            let checked = check_one(api, headers, model, input).await;
            checked.map_err(|error| (index, error))?;
        }
        Ok(())
    };
    match format {
        ResponseFormat::Document => checks.await,
        ResponseFormat::Events | ResponseFormat::JsonLines => {
            timeout(api.header_grace, checks).await.unwrap_or(Ok(()))
        }
    }
}

async fn check_one(
    api: &Api,
    headers: &HeaderMap,
    model: &ModelRef,
    input: &InferInput,
) -> Result<(), Diagnostic> {
    let (call, _) = short_call(api, model.clone(), headers).await?;
    let request = &TokenizeRequest {
        input: input.clone(),
        tools: Vec::new(),
        reasoning: ReasoningOptions::default(),
        template_variables: Map::new(),
    };
    let tokenize = |worker: WorkerClient| async move { worker.tokenize(request).await };
    let (tokens, origin) = api.relay.call(call, tokenize).await?;
    let context_length = api.context_length(model, &origin.worker.worker).await?;
    if context_length > 0 && tokens.count >= context_length {
        return Err(too_long(tokens.count, context_length));
    }
    Ok(())
}

fn too_long(tokens: u32, context_length: u32) -> Diagnostic {
    Diagnostic::new(
        Code::ContextLengthExceeded,
        format!("the prompt has {tokens} tokens, but the context length is {context_length}"),
    )
    .hint("shorten the prompt")
    .param("input")
    .detail("prompt_tokens", tokens)
    .detail("context_length", context_length)
}
