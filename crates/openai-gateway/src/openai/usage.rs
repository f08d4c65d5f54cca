use serde::Serialize;
use utoipa::ToSchema;
use worker_contract::Usage;

/// Token counts of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct CompletionUsage {
    /// Tokens of the prompts, each counted once for all its choices.
    pub prompt_tokens: u32,
    /// Tokens generated for all choices, end tokens included.
    pub completion_tokens: u32,
    /// Sum of `prompt_tokens` and `completion_tokens`.
    pub total_tokens: u32,
    /// Breakdown of `prompt_tokens`.
    pub prompt_tokens_details: PromptTokensDetails,
    /// Breakdown of `completion_tokens`.
    pub completion_tokens_details: CompletionTokensDetails,
}

/// Breakdown of the prompt's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Tokens found in the KV cache instead of being computed.
    pub cached_tokens: u32,
}

/// Breakdown of the generated tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct CompletionTokensDetails {
    /// Tokens of the reasoning.
    pub reasoning_tokens: u32,
}

impl From<Usage> for CompletionUsage {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
            prompt_tokens_details: PromptTokensDetails {
                cached_tokens: usage.cached_tokens,
            },
            completion_tokens_details: CompletionTokensDetails {
                reasoning_tokens: usage.reasoning_tokens,
            },
        }
    }
}

/// Sum of the token counts of all choices. A prompt counts as the first of its choices reports
/// it.
#[derive(Debug, Clone, Copy)]
pub(super) struct UsageSum {
    total: Usage,
    running_choices: u32,
    choices_per_input: u32,
}

impl UsageSum {
    pub(super) fn new(choices: u32, choices_per_input: u32) -> Self {
        Self {
            total: Usage::default(),
            running_choices: choices,
            choices_per_input: choices_per_input.max(1),
        }
    }

    /// Adds the counts of a choice that ended. Returns `true` when it was the last one.
    pub(super) fn add(&mut self, choice: u32, usage: Usage) -> bool {
        let add = |total: &mut u32, count: u32| *total = total.saturating_add(count);
        if choice.is_multiple_of(self.choices_per_input) {
            add(&mut self.total.prompt_tokens, usage.prompt_tokens);
            add(&mut self.total.cached_tokens, usage.cached_tokens);
        }
        add(&mut self.total.completion_tokens, usage.completion_tokens);
        add(&mut self.total.reasoning_tokens, usage.reasoning_tokens);
        self.running_choices = self.running_choices.saturating_sub(1);
        self.running_choices == 0
    }

    pub(super) fn total(&self) -> CompletionUsage {
        self.total.into()
    }
}
