//! Checks a request and translates it before it gets a slot of the engine.

use diagnostics::Diagnostic;
use inference_execution::requests::{check_parameters, check_tool_choice, empty_input, no_vision};
use rest_client::RestClient;
use worker_contract::{Capability, EngineKind, InferInput, InferRequest};

use crate::{adapter::Adapter, call::Call, llama_cpp, ollama, openai, thinking::Thinking};

/// Checks a request and translates it. What was changed or ignored is appended to `notes`.
pub(crate) async fn translate(
    adapter: &Adapter,
    client: &RestClient,
    request: &InferRequest,
    seed: u64,
    notes: &mut Vec<String>,
) -> Result<Call, Diagnostic> {
    check(adapter, request)?;
    let facts = adapter.facts();
    if let Some(expected) = request.expected_context.filter(|n| *n > facts.context) {
        let context = facts.context;
        notes.push(format!("the context has {context} tokens, not {expected}"));
    }
    let model = &adapter.settings().alias;
    let format = facts.format.as_ref();
    let thinking = Thinking::new(request, format, facts.reasons, model, notes)?;
    match adapter.kind() {
        EngineKind::LlamaCpp => {
            llama_cpp::call(adapter, client, request, thinking, seed, notes).await
        }
        EngineKind::Vllm | EngineKind::Openai => {
            openai::call(adapter, request, &thinking, seed, notes)
        }
        EngineKind::Ollama => ollama::call(adapter, request, &thinking, seed, notes),
    }
}

/// Checks what does not depend on the engine, and what the engine lacks.
fn check(adapter: &Adapter, request: &InferRequest) -> Result<(), Diagnostic> {
    let facts = adapter.facts();
    check_parameters(request, facts.vocabulary)?;
    check_tool_choice(request)?;
    let is_empty = match &request.input {
        InferInput::Prompt(text) => text.is_empty(),
        InferInput::Messages(messages) => messages.is_empty(),
        InferInput::Tokens(tokens) => tokens.is_empty(),
    };
    if is_empty {
        return Err(empty_input(&request.input));
    }
    if request.has_images() && !facts.can(Capability::Vision) {
        return Err(no_vision(&adapter.settings().alias));
    }
    let lacks = |capability, what, param| {
        if facts.can(capability) {
            Ok(())
        } else {
            Err(adapter.unsupported(what, param))
        }
    };
    if request.may_call() {
        lacks(Capability::Tools, "tools with this model", "tools")?;
    }
    if !request.continue_from.is_empty() {
        let what = "the continuation of an output";
        lacks(Capability::Continue, what, "continue_from")?;
    }
    let reports_tokens = adapter.kind() == EngineKind::LlamaCpp;
    if !request.preceding_tokens.is_empty() && !reports_tokens {
        return Err(adapter.unsupported("tokens before the input", "preceding_tokens"));
    }
    if request.report_prompt && !reports_tokens {
        return Err(adapter.unsupported("reporting the tokens of the prompt", "report_prompt"));
    }
    Ok(())
}
