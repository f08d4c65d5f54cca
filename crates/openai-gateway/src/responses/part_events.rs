use super::items::TextPart;

/// Names of the events about a part of text.
pub(super) struct PartEvents {
    pub added: &'static str,
    pub delta: &'static str,
    pub text_done: &'static str,
    pub done: &'static str,
    /// Field with the index of the part.
    pub index: &'static str,
}

pub(super) const OUTPUT: PartEvents = PartEvents {
    added: "response.content_part.added",
    delta: "response.output_text.delta",
    text_done: "response.output_text.done",
    done: "response.content_part.done",
    index: "content_index",
};
const REASONING: PartEvents = PartEvents {
    added: "response.content_part.added",
    delta: "response.reasoning_text.delta",
    text_done: "response.reasoning_text.done",
    done: "response.content_part.done",
    index: "content_index",
};
const SUMMARY: PartEvents = PartEvents {
    added: "response.reasoning_summary_part.added",
    delta: "response.reasoning_summary_text.delta",
    text_done: "response.reasoning_summary_text.done",
    done: "response.reasoning_summary_part.done",
    index: "summary_index",
};

impl TextPart {
    pub(super) fn events(&self) -> &'static PartEvents {
        match self {
            Self::Output { .. } => &OUTPUT,
            Self::Reasoning { .. } => &REASONING,
            Self::Summary { .. } => &SUMMARY,
        }
    }
}
