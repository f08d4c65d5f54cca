use diagnostics::{Diagnostic, ErrorBody};
use input_validation::RequestId;
use serde_json::{Value, json};
use worker_contract::{EndEvent, FinishReason, StartedEvent, TokenEvent, ToolCallPiece};

use super::{
    document::{IncompleteDetails, ResponseDocument, ResponseError, ResponseStatus},
    items::{FunctionCallItem, ItemStatus, MessageItem, ReasoningItem, ResponseItem, TextPart},
    part_events::{OUTPUT, PartEvents},
};
use crate::{
    json::write_json,
    logprobs::{ChatTokenLogprob, PendingLogprobs},
    response_writer::ResponseWriter,
};

/// Writes a response, as a document or as server-sent events.
///
/// The items of the output follow one another; the last one is open until another begins.
#[derive(Debug)]
pub(super) struct ResponsesWriter {
    id: RequestId,
    stream: bool,
    response: ResponseDocument,
    /// Whether reasoning is written as a summary.
    summary: bool,
    /// If log probabilities are requested.
    logprobs: Option<PendingLogprobs>,
    open: Option<OpenItem>,
    /// Number of events so far.
    events: u64,
}

/// The item that output is appended to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpenItem {
    Reasoning,
    Message,
    /// The call with this index.
    Call(u32),
}

impl ResponsesWriter {
    pub(super) fn new(id: RequestId, response: ResponseDocument, stream: bool) -> Self {
        Self {
            id,
            stream,
            response,
            summary: false,
            logprobs: None,
            open: None,
            events: 0,
        }
    }

    pub(super) fn with_logprobs(mut self, enabled: bool) -> Self {
        self.logprobs = enabled.then(PendingLogprobs::default);
        self
    }

    pub(super) fn with_summary(mut self, enabled: bool) -> Self {
        self.summary = enabled;
        self
    }

    /// Writes the beginning of an event, up to its own fields.
    fn begin_event(&mut self, kind: &str, out: &mut Vec<u8>) {
        for part in ["event: ", kind, "\ndata: {\"type\":\"", kind] {
            out.extend_from_slice(part.as_bytes());
        }
        out.extend_from_slice(b"\",\"sequence_number\":");
        write_json(out, &self.events);
        self.events += 1;
    }

    /// Writes an event with these fields; nothing if the response is a document.
    fn event(&mut self, kind: &str, fields: &[(&str, Value)], out: &mut Vec<u8>) {
        if !self.stream {
            return;
        }
        self.begin_event(kind, out);
        for (name, value) in fields {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            write_json(out, value);
        }
        out.extend_from_slice(b"}\n\n");
    }

    fn response_event(&mut self, kind: &str, out: &mut Vec<u8>) {
        if self.stream {
            let response = json!(self.response);
            self.event(kind, &[("response", response)], out);
        }
    }

    /// Index of the open item.
    fn output_index(&self) -> usize {
        self.response.output.len().saturating_sub(1)
    }

    fn item_id(&self, prefix: &str) -> String {
        format!("{prefix}_{}_{}", self.id, self.response.output.len())
    }

    /// Begins an item, after which output is appended to it.
    fn begin_item(&mut self, kind: OpenItem, item: ResponseItem, out: &mut Vec<u8>) {
        self.end_item(ItemStatus::Completed, out);
        self.open = Some(kind);
        let mut announced = item.without_parts();
        self.response.output.push(item);
        if !self.stream {
            return;
        }
        announced.set_status(ItemStatus::InProgress);
        let index = json!(self.output_index());
        self.event(
            "response.output_item.added",
            &[("output_index", index), ("item", json!(announced))],
            out,
        );
        self.part_event(|events| events.added, out);
    }

    /// Writes an event with the open item's part, if it has one.
    fn part_event(&mut self, name: impl Fn(&PartEvents) -> &'static str, out: &mut Vec<u8>) {
        let index = self.output_index();
        let Some(item) = self.response.output.last_mut() else {
            return;
        };
        let id = item.id().to_owned();
        let Some(part) = item.part_mut() else {
            return;
        };
        let events = part.events();
        let fields = [
            ("item_id", json!(id)),
            ("output_index", json!(index)),
            (events.index, json!(0)),
            ("part", json!(part)),
        ];
        self.event(name(events), &fields, out);
    }

    /// Ends the open item, if there is one.
    fn end_item(&mut self, status: ItemStatus, out: &mut Vec<u8>) {
        let Some(open) = self.open.take() else {
            return;
        };
        if open == OpenItem::Message
            && let Some(pending) = &mut self.logprobs
            && !pending.is_empty()
        {
            let scores = pending.take_chat().content;
            self.append("", &scores, out);
        }
        if let Some(item) = self.response.output.last_mut() {
            item.set_status(status);
        }
        if self.stream {
            self.done_events(out);
        }
    }

    fn done_events(&mut self, out: &mut Vec<u8>) {
        let index = json!(self.output_index());
        let Some(item) = self.response.output.last_mut() else {
            return;
        };
        let done = json!(item);
        let id = ("item_id", json!(item.id()));
        let output_index = ("output_index", index);
        let mut fields = vec![id, output_index.clone()];
        if let ResponseItem::FunctionCall(call) = item {
            fields.push(("name", json!(call.name)));
            fields.push(("arguments", json!(call.arguments)));
            self.event("response.function_call_arguments.done", &fields, out);
        } else if let Some(part) = item.part_mut() {
            let events = part.events();
            fields.push((events.index, json!(0)));
            fields.push(("text", json!(part.text())));
            if let TextPart::Output { logprobs, .. } = part {
                fields.push(("logprobs", json!(logprobs)));
            }
            self.event(events.text_done, &fields, out);
            self.part_event(|events| events.done, out);
        }
        self.event(
            "response.output_item.done",
            &[output_index, ("item", done)],
            out,
        );
    }

    /// Appends text to the open item and writes its event. The event is assembled by hand: it
    /// occurs more often than all others.
    fn append(&mut self, text: &str, scores: &[ChatTokenLogprob], out: &mut Vec<u8>) {
        let index = self.output_index();
        let Some(part) = self.response.output.last_mut().and_then(|i| i.part_mut()) else {
            return;
        };
        part.append(text, scores);
        let events = part.events();
        if !self.stream {
            return;
        }
        self.begin_event(events.delta, out);
        if let Some(item) = self.response.output.last() {
            out.extend_from_slice(b",\"item_id\":");
            write_json(out, item.id());
        }
        out.extend_from_slice(b",\"output_index\":");
        write_json(out, &index);
        for part in [",\"", events.index, "\":0,\"delta\":"] {
            out.extend_from_slice(part.as_bytes());
        }
        write_json(out, text);
        if events.delta == OUTPUT.delta {
            out.extend_from_slice(b",\"logprobs\":");
            write_json(out, scores);
        }
        out.extend_from_slice(b"}\n\n");
    }

    fn reasoning(&mut self, text: &str, out: &mut Vec<u8>) {
        if self.open != Some(OpenItem::Reasoning) {
            let (mut summary, mut content) = (Vec::new(), Vec::new());
            let text = String::new();
            if self.summary {
                summary.push(TextPart::Summary { text });
            } else {
                content.push(TextPart::Reasoning { text });
            }
            let item = ReasoningItem {
                id: self.item_id("rs"),
                summary,
                content,
                status: ItemStatus::InProgress,
            };
            self.begin_item(OpenItem::Reasoning, ResponseItem::Reasoning(item), out);
        }
        self.append(text, &[], out);
    }

    fn begin_message(&mut self, out: &mut Vec<u8>) {
        let item = MessageItem {
            id: self.item_id("msg"),
            status: ItemStatus::InProgress,
            role: "assistant",
            content: vec![TextPart::output()],
        };
        self.begin_item(OpenItem::Message, ResponseItem::Message(item), out);
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        if self.open != Some(OpenItem::Message) {
            self.begin_message(out);
        }
        let scores = match &mut self.logprobs {
            Some(pending) => pending.take_chat().content,
            None => Vec::new(),
        };
        self.append(text, &scores, out);
    }

    fn call(&mut self, piece: ToolCallPiece, out: &mut Vec<u8>) {
        let call = OpenItem::Call(piece.index);
        if self.open != Some(call) {
            let item = FunctionCallItem {
                id: self.item_id("fc"),
                call_id: piece.id.unwrap_or_default(),
                name: piece.name.unwrap_or_default(),
                arguments: String::new(),
                status: ItemStatus::InProgress,
            };
            self.begin_item(call, ResponseItem::FunctionCall(item), out);
        }
        if piece.arguments.is_empty() {
            return;
        }
        let index = json!(self.output_index());
        let Some(ResponseItem::FunctionCall(item)) = self.response.output.last_mut() else {
            return;
        };
        item.arguments.push_str(&piece.arguments);
        if self.stream {
            let id = json!(item.id);
            self.event(
                "response.function_call_arguments.delta",
                &[
                    ("item_id", id),
                    ("output_index", index),
                    ("delta", json!(piece.arguments)),
                ],
                out,
            );
        }
    }
}

impl ResponseWriter for ResponsesWriter {
    fn start(&mut self, _: &StartedEvent, out: &mut Vec<u8>) {
        self.response_event("response.created", out);
        self.response_event("response.in_progress", out);
    }

    fn token(&mut self, _: u32, mut event: TokenEvent, out: &mut Vec<u8>) {
        if !event.reasoning.is_empty() {
            self.reasoning(&event.reasoning, out);
        }
        if let Some(pending) = &mut self.logprobs {
            pending.push(&mut event);
        }
        if !event.t.is_empty() {
            self.text(&event.t, out);
        }
        for piece in event.calls {
            self.call(piece, out);
        }
    }

    fn end(&mut self, _: u32, event: &EndEvent, out: &mut Vec<u8>) -> bool {
        if let Some(pending) = &mut self.logprobs {
            pending.finish(event.reason);
        }
        if self.response.output.is_empty() {
            self.begin_message(out);
        }
        let (status, item_status, kind) = match event.reason {
            FinishReason::Length => (
                ResponseStatus::Incomplete,
                ItemStatus::Incomplete,
                "response.incomplete",
            ),
            FinishReason::Stop | FinishReason::ToolCalls => (
                ResponseStatus::Completed,
                ItemStatus::Completed,
                "response.completed",
            ),
        };
        self.end_item(item_status, out);
        self.response.status = status;
        self.response.incomplete_details =
            (status == ResponseStatus::Incomplete).then_some(IncompleteDetails {
                reason: "max_output_tokens",
            });
        self.response.usage = Some(event.usage.into());
        if self.stream {
            self.response_event(kind, out);
        } else {
            write_json(out, &self.response);
        }
        true
    }

    fn error(&mut self, error: Diagnostic, out: &mut Vec<u8>) {
        self.response.status = ResponseStatus::Failed;
        self.response.error = Some(ResponseError::from(&error));
        if let (Some(_), Some(item)) = (self.open.take(), self.response.output.last_mut()) {
            item.set_status(ItemStatus::Incomplete);
        }
        // OpenAI documents the fields of the error as those of the event; its server and its
        // clients have them in `error`.
        let error = json!(ErrorBody::from(error).error);
        let field = |name: &str| error.get(name).cloned().unwrap_or_default();
        let fields = [
            ("code", field("code")),
            ("message", field("message")),
            ("param", field("param")),
            ("error", error.clone()),
        ];
        self.event("error", &fields, out);
        self.response_event("response.failed", out);
    }

    fn partial_text(&self) -> String {
        if self.stream {
            return String::new();
        }
        let messages = self.response.output.iter().filter_map(|item| match item {
            ResponseItem::Message(message) => Some(&message.content),
            ResponseItem::Reasoning(_) | ResponseItem::FunctionCall(_) => None,
        });
        messages.flatten().map(TextPart::text).collect()
    }
}
