use worker_contract::{FinishReason, TokenEvent, ToolChoice};

use super::endpoint::OpenAiEndpoint;
use crate::parsed_request::RequestContext;

/// What the chunks and the document of one response have in common.
#[derive(Debug, Clone)]
pub(super) struct ResponseHead {
    pub endpoint: OpenAiEndpoint,
    pub id: String,
    /// Seconds since the Unix epoch.
    pub created: i64,
    pub model: String,
    pub system_fingerprint: &'static str,
    /// Whether the client named the function to call.
    names_function: bool,
    /// Number of choices that have the same prompt.
    pub choices_per_input: u32,
    /// Whether the response contains reasoning.
    shows_reasoning: bool,
}

impl ResponseHead {
    pub(super) fn new(
        endpoint: OpenAiEndpoint,
        model: String,
        tool_choice: &ToolChoice,
        context: &RequestContext,
    ) -> Self {
        let prefix = match endpoint {
            OpenAiEndpoint::ChatCompletions => "chatcmpl",
            OpenAiEndpoint::Completions => "cmpl",
        };
        Self {
            endpoint,
            id: format!("{prefix}-{}", context.request_id),
            created: context.received_at.as_second(),
            model,
            system_fingerprint: context.system_fingerprint,
            names_function: matches!(tool_choice, ToolChoice::Named(_)),
            choices_per_input: u32::MAX,
            shows_reasoning: true,
        }
    }

    /// Sets after how many choices those of the next prompt follow. Default: all have the same.
    pub(super) fn with_choices_per_input(mut self, choices: u32) -> Self {
        self.choices_per_input = choices;
        self
    }

    /// Sets whether the response contains reasoning. Default: true.
    pub(super) fn with_reasoning(mut self, shown: bool) -> Self {
        self.shows_reasoning = shown;
        self
    }

    /// Removes reasoning that the client does not want.
    pub(super) fn hide_reasoning(&self, event: &mut TokenEvent) {
        if !self.shows_reasoning {
            event.reasoning.clear();
        }
    }

    pub(super) fn finish_reason(&self, reason: FinishReason) -> &'static str {
        match reason {
            // OpenAI reports `tool_calls` only for calls that the model decided to make.
            FinishReason::ToolCalls if self.names_function => "stop",
            FinishReason::ToolCalls => "tool_calls",
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        }
    }
}
