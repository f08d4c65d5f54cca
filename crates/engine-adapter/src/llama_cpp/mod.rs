//! The server of llama.cpp (`tools/server/README.md` of its repository).
//!
//! Prompts and conversations are sent as tokens to `/completion`, which reports the id of each
//! token: such outputs can be continued. Conversations with tools or images are sent to
//! `/v1/chat/completions`, because the server parses them.

mod completion;
mod continuation;
mod tokens;

use tokens::Prompt;
pub(crate) use tokens::{Tokens, lost_tokens};

use diagnostics::Diagnostic;
use inference_execution::requests::max_output_tokens;
use reasoning::Start;
use rest_client::RestClient;
use serde_json::json;
use worker_contract::{InferInput, InferRequest};

use crate::{
    adapter::Adapter,
    call::{Call, Framing},
    facts::Facts,
    openai,
    thinking::Thinking,
    values,
};

/// Translates a request.
pub(crate) async fn call(
    adapter: &Adapter,
    client: &RestClient,
    request: &InferRequest,
    thinking: Thinking,
    seed: u64,
    notes: &mut Vec<String>,
) -> Result<Call, Diagnostic> {
    let facts = adapter.facts();
    if needs_parser(request, facts) {
        if !request.preceding_tokens.is_empty() {
            let what = "tokens before a chat with tools or images";
            return Err(adapter.unsupported(what, "preceding_tokens"));
        }
        if !request.continue_from.is_empty() {
            let what = "the continuation of a chat with tools, images, or reasoning and a \
                        constraint";
            return Err(adapter.unsupported(what, "continue_from"));
        }
        return openai::chat(adapter, request, &thinking, seed, notes);
    }
    let tokens = Tokens {
        client,
        facts,
        request,
        output_limit: request.max_tokens.filter(|_| !needs_tokens(request)),
    };
    let encoded = tokens.prompt(&thinking, notes).await?;
    let max_tokens = match &encoded.prompt {
        Prompt::Text(_, max_tokens) => *max_tokens,
        Prompt::Tokens(prompt) => max_output_tokens(prompt, request, facts.context, notes)?,
    };
    let reasoning = match (&facts.format, &request.input) {
        (Some(format), InferInput::Messages(_)) => {
            let start = format.start(&encoded.end);
            let splitter = format.splitter(start);
            (!splitter.is_transparent()).then_some((format, start, splitter))
        }
        // A prompt without a chat template is continued as it is.
        _ => None,
    };
    let plan = continuation::plan(&tokens, reasoning.is_some(), max_tokens).await?;
    let mut limit = max_tokens;
    let (input, prompt) = match encoded.prompt {
        Prompt::Text(text, _) => (json!(text), None),
        Prompt::Tokens(prompt) if plan == continuation::Plan::After => {
            limit -= request.continue_from.len() as u32;
            let input = [&prompt[..], &request.continue_from].concat();
            (json!(input), Some(prompt))
        }
        Prompt::Tokens(prompt) => (json!(prompt), Some(prompt)),
    };
    let mut body = completion::body(request, &input, limit, seed, facts.context)?;
    let mut splitter = None;
    if let Some((format, start, split)) = reasoning {
        let opens = (start == Start::Reasoning).then(|| format.opening());
        values::limit_reasoning(&mut body, format, opens, thinking.plan.budget);
        splitter = Some(split);
    }
    let mut call = Call::new("/completion", body, Framing::Tokens(completion::read));
    call.counts_prompt = prompt.is_none();
    call.prompt = prompt.unwrap_or_default();
    call.splitter = splitter;
    call.finds_lost_tokens = true;
    match plan {
        continuation::Plan::New | continuation::Plan::After => {}
        continuation::Plan::Repeat => call.repeated.clone_from(&request.continue_from),
        continuation::Plan::Complete(reason) => call.complete = Some(reason),
    }
    Ok(call)
}

/// Whether the tokens of the prompt must be known before it is sent. Without them, a call of the
/// server less precedes the output.
fn needs_tokens(request: &InferRequest) -> bool {
    request.report_prompt
        || request.continue_final_message
        || !request.preceding_tokens.is_empty()
        || !request.continue_from.is_empty()
}

/// Whether the server must parse the output. A constraint of the answer alone is one that the
/// server applies after the reasoning.
fn needs_parser(request: &InferRequest, facts: &Facts) -> bool {
    let is_chat = matches!(request.input, InferInput::Messages(_));
    let constrained = request.constraint.is_some() && facts.format.is_some();
    is_chat && (request.may_call() || request.has_images() || constrained)
}
