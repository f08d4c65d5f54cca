//! The items of which an output consists.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{logprobs::ChatTokenLogprob, schemas::UnsupportedArray};

/// How far an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemStatus {
    /// More of it follows.
    InProgress,
    /// It is complete.
    Completed,
    /// The output was cut off in it.
    Incomplete,
}

/// Item of an output.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseItem {
    Reasoning(ReasoningItem),
    Message(MessageItem),
    FunctionCall(FunctionCallItem),
}

/// Reasoning of the model before its answer. To continue the conversation, send it back before
/// the message or the call that follows it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ReasoningItem {
    pub id: String,
    /// The reasoning, if the request asks for a summary.
    pub summary: Vec<TextPart>,
    /// The reasoning, unless the request asks for a summary.
    pub content: Vec<TextPart>,
    pub status: ItemStatus,
}

/// Text of the model.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct MessageItem {
    pub id: String,
    pub status: ItemStatus,
    /// Always `assistant`.
    #[schema(pattern = "^assistant$")]
    pub role: &'static str,
    /// The text, one part.
    pub content: Vec<TextPart>,
}

/// Tool call for the client to run.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct FunctionCallItem {
    pub id: String,
    /// Id to send back as `call_id` with the result.
    pub call_id: String,
    pub name: String,
    /// Arguments as the text of a JSON object. May be invalid JSON if the output was cut off
    /// or the call was not constrained.
    pub arguments: String,
    pub status: ItemStatus,
}

/// Part of a message or of a reasoning.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type")]
pub enum TextPart {
    #[serde(rename = "output_text")]
    Output {
        text: String,
        /// Always empty.
        #[schema(value_type = UnsupportedArray)]
        annotations: [(); 0],
        /// Log probabilities of the output tokens; empty unless requested.
        logprobs: Vec<ChatTokenLogprob>,
    },
    #[serde(rename = "reasoning_text")]
    Reasoning { text: String },
    #[serde(rename = "summary_text")]
    Summary { text: String },
}

impl TextPart {
    pub(super) fn output() -> Self {
        Self::Output {
            text: String::new(),
            annotations: [],
            logprobs: Vec::new(),
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Output { text, .. } | Self::Reasoning { text } | Self::Summary { text } => text,
        }
    }

    pub(super) fn append(&mut self, more: &str, scores: &[ChatTokenLogprob]) {
        match self {
            Self::Output { text, logprobs, .. } => {
                text.push_str(more);
                logprobs.extend_from_slice(scores);
            }
            Self::Reasoning { text } | Self::Summary { text } => text.push_str(more),
        }
    }
}

impl ResponseItem {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Reasoning(item) => &item.id,
            Self::Message(item) => &item.id,
            Self::FunctionCall(item) => &item.id,
        }
    }

    pub(super) fn set_status(&mut self, status: ItemStatus) {
        match self {
            Self::Reasoning(item) => item.status = status,
            Self::Message(item) => item.status = status,
            Self::FunctionCall(item) => item.status = status,
        }
    }

    /// Returns the part to which text is appended; a call has none.
    pub(super) fn part_mut(&mut self) -> Option<&mut TextPart> {
        match self {
            Self::Reasoning(item) => item.content.last_mut().or(item.summary.last_mut()),
            Self::Message(item) => item.content.last_mut(),
            Self::FunctionCall(_) => None,
        }
    }

    /// Returns a copy without its parts, as it is announced.
    pub(super) fn without_parts(&self) -> Self {
        let mut item = self.clone();
        match &mut item {
            Self::Reasoning(item) => {
                item.summary.clear();
                item.content.clear();
            }
            Self::Message(item) => item.content.clear(),
            Self::FunctionCall(_) => {}
        }
        item
    }
}
