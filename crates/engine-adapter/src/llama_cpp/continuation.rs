//! How the output of another worker is continued.

use diagnostics::Diagnostic;
use inference_execution::requests::StopMatcher;
use worker_contract::FinishReason;

use super::tokens::Tokens;

/// How an output is continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// There is no output yet.
    New,
    /// The tokens of the output are part of the prompt.
    After,
    /// The server generates the output once more from its beginning, because its state there
    /// matters: that of the random numbers, of a grammar, or a part of a character or of a stop
    /// sequence.
    Repeat,
    /// The output is complete.
    Complete(FinishReason),
}

/// Decides how the request's output is continued. `splits` is whether reasoning is separated.
pub(super) async fn plan(
    tokens: &Tokens<'_>,
    splits: bool,
    max_tokens: u32,
) -> Result<Plan, Diagnostic> {
    let request = tokens.request;
    let Some(last) = request.continue_from.last() else {
        return Ok(Plan::New);
    };
    if request.continue_from.len() as u32 >= max_tokens {
        return Ok(Plan::Complete(FinishReason::Length));
    }
    let values = request.sampling.values.or(&request.sampling_defaults);
    let is_greedy = values.temperature == Some(0.0);
    if !is_greedy || splits || request.constraint.is_some() {
        return Ok(Plan::Repeat);
    }
    let text = tokens.text(&request.continue_from).await?;
    let mut stops = StopMatcher::new(request.stop.clone());
    let stopped = stops.push(&text, &mut String::new());
    let is_part = text.ends_with('\u{fffd}') || stops.is_holding();
    if stopped || is_part || tokens.is_control(*last).await? {
        return Ok(Plan::Repeat);
    }
    Ok(Plan::After)
}
