use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use worker_contract::{FinishReason, TokenEvent, TokenLogprob};

/// One token of chat's `logprobs.content`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChatToken {
    /// Its text.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The bytes of its text: those of consecutive tokens together make the answer's
    /// characters.
    pub bytes: Vec<u8>,
    /// Alternatives, likeliest first.
    pub top_logprobs: Vec<ChatAlternative>,
}

/// An alternative at a position.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChatAlternative {
    /// Its text.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Its text's bytes.
    pub bytes: Vec<u8>,
}

/// Chat's `logprobs`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct ChatLogprobs {
    /// One for each token.
    pub content: Vec<ChatToken>,
    /// Always null: nothing is refused.
    pub refusal: Option<String>,
}

/// Completion's `logprobs`: lists of the same length.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct CompletionLogprobs {
    /// Texts of the tokens.
    pub tokens: Vec<String>,
    /// Their probabilities.
    pub token_logprobs: Vec<f32>,
    /// Alternatives, by text.
    #[schema(value_type = Vec<std::collections::HashMap<String, f32>>)]
    pub top_logprobs: Vec<Map<String, Value>>,
    /// Where each begins in the answer, in characters.
    pub text_offset: Vec<usize>,
}

/// Tokens whose probabilities have not been sent yet. A token without text may be the end
/// token or part of a stop text, which belong to no answer: it waits until text follows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending {
    tokens: Vec<Token>,
    /// Characters of the tokens taken so far.
    offset: usize,
}

#[derive(Debug, Clone)]
struct Token {
    logprob: TokenLogprob,
    /// Text became final with it.
    gave_text: bool,
}

impl Pending {
    pub(crate) fn push(&mut self, event: &TokenEvent) {
        if let Some(logprob) = &event.logprob {
            self.tokens.push(Token {
                logprob: logprob.clone(),
                gave_text: !event.t.is_empty(),
            });
        }
    }

    /// The answer is complete: one that stopped ended before the tokens that gave no text.
    pub(crate) fn finish(&mut self, reason: FinishReason) {
        if reason != FinishReason::Length {
            let with_text = self.tokens.iter().rposition(|token| token.gave_text);
            self.tokens.truncate(with_text.map_or(0, |last| last + 1));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    pub(crate) fn take_chat(&mut self) -> ChatLogprobs {
        let content = self
            .tokens
            .drain(..)
            .map(|Token { logprob: token, .. }| ChatToken {
                token: token.token,
                bytes: token.bytes,
                logprob: token.logprob,
                top_logprobs: token
                    .top
                    .into_iter()
                    .map(|alternative| ChatAlternative {
                        bytes: alternative.bytes,
                        token: alternative.token,
                        logprob: alternative.logprob,
                    })
                    .collect(),
            })
            .collect();
        ChatLogprobs {
            content,
            refusal: None,
        }
    }

    pub(crate) fn take_completion(&mut self) -> CompletionLogprobs {
        let mut out = CompletionLogprobs::default();
        for Token { logprob: token, .. } in self.tokens.drain(..) {
            out.text_offset.push(self.offset);
            self.offset += token.token.chars().count();
            out.tokens.push(token.token);
            out.token_logprobs.push(token.logprob);
            out.top_logprobs.push(
                token
                    .top
                    .into_iter()
                    .map(|alternative| (alternative.token, alternative.logprob.into()))
                    .collect(),
            );
        }
        out
    }
}
