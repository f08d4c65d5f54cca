//! The server of llama.cpp (`tools/server/README.md` of its repository).
//!
//! Prompts and conversations are sent as tokens to `/completion`, which reports the id of each
//! token: such outputs can be continued. Conversations with tools or images are sent to
//! `/v1/chat/completions`, because the server parses them.

mod completion;
mod continuation;
mod tokens;

pub(crate) use tokens::{Tokens, lost_tokens};

use diagnostics::Diagnostic;
use inference_execution::requests::max_output_tokens;
use reasoning::Start;
use rest_client::RestClient;
use worker_contract::{InferInput, InferRequest};

use crate::{adapter::Adapter, call::Call, facts::Facts, openai, thinking::Thinking, values};

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
    };
    let encoded = tokens.prompt(&thinking, notes).await?;
    let prompt = encoded.tokens;
    let max_tokens = max_output_tokens(&prompt, request, facts.context, notes)?;
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
    let mut input = prompt.clone();
    let mut limit = max_tokens;
    if plan == continuation::Plan::After {
        input.extend(&request.continue_from);
        limit -= request.continue_from.len() as u32;
    }
    let mut body = completion::body(request, &input, limit, seed, facts.context)?;
    let mut splitter = None;
    if let Some((format, start, split)) = reasoning {
        let opens = (start == Start::Reasoning).then(|| format.opening());
        values::limit_reasoning(&mut body, format, opens, thinking.plan.budget);
        splitter = Some(split);
    }
    let mut call = Call::new("/completion", body, completion::read);
    call.prompt = prompt;
    call.splitter = splitter;
    call.finds_lost_tokens = true;
    match plan {
        continuation::Plan::New | continuation::Plan::After => {}
        continuation::Plan::Repeat => call.repeated.clone_from(&request.continue_from),
        continuation::Plan::Complete(reason) => call.complete = Some(reason),
    }
    Ok(call)
}

/// Whether the server must parse the output. A constraint of the answer alone is one that the
/// server applies after the reasoning.
fn needs_parser(request: &InferRequest, facts: &Facts) -> bool {
    let is_chat = matches!(request.input, InferInput::Messages(_));
    let constrained = request.constraint.is_some() && facts.format.is_some();
    is_chat && (request.may_call() || request.has_images() || constrained)
}
