use serde::Serialize;
use utoipa::ToSchema;
use worker_contract::Usage;

/// OpenAI's count of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct CompletionUsage {
    /// Of the prompt.
    pub prompt_tokens: u32,
    /// Generated, for all choices together.
    pub completion_tokens: u32,
    /// Both.
    pub total_tokens: u32,
    /// More about the prompt's.
    pub prompt_tokens_details: PromptTokensDetails,
}

/// More about the tokens of the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Not computed because a cache had them.
    pub cached_tokens: u32,
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
        }
    }
}

/// The tokens of all choices of an answer: their prompt is one and the same, and counts as
/// the first choice counted it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UsageSum {
    total: Usage,
    /// Choices whose count is missing.
    missing: u32,
}

impl UsageSum {
    pub fn of(choices: u32) -> Self {
        Self {
            total: Usage::default(),
            missing: choices,
        }
    }

    /// Adds the count of a choice that ended; `true` when it was the last.
    pub fn add(&mut self, choice: u32, usage: Usage) -> bool {
        if choice == 0 {
            self.total.prompt_tokens = usage.prompt_tokens;
            self.total.cached_tokens = usage.cached_tokens;
        }
        self.total.completion_tokens = self
            .total
            .completion_tokens
            .saturating_add(usage.completion_tokens);
        self.missing = self.missing.saturating_sub(1);
        self.missing == 0
    }

    pub fn total(&self) -> Usage {
        self.total
    }
}
