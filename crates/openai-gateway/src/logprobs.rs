use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use worker_contract::{FinishReason, TokenEvent, TokenLogprob};

use crate::schemas::Unsupported;

/// Log probability of one output token.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChatTokenLogprob {
    /// Text of the token. Bytes that are not valid UTF-8 by themselves appear as U+FFFD.
    pub token: String,
    /// Natural logarithm of the token's probability, before temperature and filters.
    pub logprob: f32,
    /// Bytes of the token's text. Concatenated over all tokens, they are the UTF-8 text of the
    /// output.
    pub bytes: Vec<u8>,
    /// Most likely tokens at this position, in descending order of probability.
    pub top_logprobs: Vec<ChatTopLogprob>,
}

/// One of the most likely tokens at a position.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChatTopLogprob {
    /// Text of the token. Bytes that are not valid UTF-8 by themselves appear as U+FFFD.
    pub token: String,
    /// Natural logarithm of the token's probability, before temperature and filters.
    pub logprob: f32,
    /// Bytes of the token's text.
    pub bytes: Vec<u8>,
}

/// Log probabilities of a chat completion.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct ChatLogprobs {
    /// One entry for each token of the content, without those of reasoning.
    pub content: Vec<ChatTokenLogprob>,
    /// Always null.
    #[schema(value_type = Unsupported)]
    pub refusal: Option<String>,
}

/// Log probabilities of a text completion: arrays with one entry for each output token.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct CompletionLogprobs {
    /// Texts of the tokens.
    pub tokens: Vec<String>,
    /// Natural logarithms of the tokens' probabilities.
    pub token_logprobs: Vec<f32>,
    /// Log probabilities of the most likely tokens, by text.
    #[schema(value_type = Vec<std::collections::HashMap<String, f32>>)]
    pub top_logprobs: Vec<Map<String, Value>>,
    /// Offsets of the tokens in the output, in characters.
    pub text_offset: Vec<usize>,
}

/// Log probabilities of tokens that have not been sent yet.
///
/// A token without text may be an end token or the beginning of a stop sequence, which are not
/// part of the output. It is held back until text follows. Tokens of reasoning and the marks
/// around it are not part of the text, and are dropped unless reasoning counts as text.
#[derive(Debug, Clone, Default)]
pub(crate) struct PendingLogprobs {
    tokens: Vec<PendingToken>,
    keeps_reasoning: bool,
    /// No text followed the last reasoning yet.
    in_reasoning: bool,
    /// Characters of the tokens taken so far.
    offset: usize,
}

#[derive(Debug, Clone)]
struct PendingToken {
    logprob: TokenLogprob,
    /// Whether text became final with this token.
    has_text: bool,
}

impl PendingLogprobs {
    /// Counts reasoning as text, as Ollama does.
    pub(crate) fn with_reasoning() -> Self {
        Self {
            keeps_reasoning: true,
            ..Self::default()
        }
    }

    /// Takes the log probability out of `event`.
    pub(crate) fn push(&mut self, event: &mut TokenEvent) {
        let reasons = !event.reasoning.is_empty();
        if reasons && !self.keeps_reasoning {
            self.in_reasoning = true;
            self.drop_without_text();
        }
        let Some(logprob) = event.logprob.take() else {
            return;
        };
        let has_text = !event.t.is_empty() || reasons && self.keeps_reasoning;
        if has_text || !reasons {
            self.tokens.push(PendingToken { logprob, has_text });
        }
        if has_text && std::mem::take(&mut self.in_reasoning) {
            self.keep_tokens_of(&event.t);
        }
    }

    fn drop_without_text(&mut self) {
        let last = self.tokens.iter().rposition(|token| token.has_text);
        self.tokens.truncate(last.map_or(0, |last| last + 1));
    }

    /// Of the tokens since the last text, keeps those of the first text after reasoning. Those
    /// before them end the reasoning.
    fn keep_tokens_of(&mut self, text: &str) {
        let (mut from, mut bytes) = (self.tokens.len(), 0);
        while from > 0 && bytes < text.len() {
            let token = &self.tokens[from - 1];
            if token.has_text && bytes > 0 {
                break;
            }
            bytes += token.logprob.bytes.len();
            from -= 1;
        }
        let before = self.tokens[..from].iter().rposition(|t| t.has_text);
        self.tokens.drain(before.map_or(0, |last| last + 1)..from);
    }

    /// Drops the tokens that are not part of the output, which is complete.
    pub(crate) fn finish(&mut self, reason: FinishReason) {
        if reason != FinishReason::Length || self.in_reasoning {
            self.drop_without_text();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    pub(crate) fn take_chat(&mut self) -> ChatLogprobs {
        let content = self
            .tokens
            .drain(..)
            .map(|PendingToken { logprob: token, .. }| ChatTokenLogprob {
                token: token.token,
                bytes: token.bytes,
                logprob: token.logprob,
                top_logprobs: token
                    .top
                    .into_iter()
                    .map(|alternative| ChatTopLogprob {
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
        for PendingToken { logprob: token, .. } in self.tokens.drain(..) {
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
