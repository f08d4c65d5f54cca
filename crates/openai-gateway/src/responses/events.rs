//! The schema of the events that [`ResponsesWriter`](super::writer) assembles.

use diagnostics::WireError;
use openapi_schema::{
    Field, SchemaRef, any, array, event_of_json, events, impl_schema, object, reference, required,
    strings, text, unsigned,
};

use super::{
    document::ResponseDocument,
    items::{ResponseItem, TextPart},
};
use crate::{logprobs::ChatTokenLogprob, schemas::UNLIMITED};

/// Server-sent event of a streamed response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseEvent {}

impl_schema! {
    ResponseEvent, uses [
        ResponseDocument, ResponseItem, TextPart, ChatTokenLogprob, WireError,
    ],
    "Event of a streamed response. The last one has the whole response.",
    events([
        whole("response.created"),
        whole("response.in_progress"),
        item("response.output_item.added"),
        item("response.output_item.done"),
        content("response.content_part.added", [part()]),
        content("response.content_part.done", [part()]),
        content("response.output_text.delta", [delta(), logprobs()]),
        content("response.output_text.done", [done(), logprobs()]),
        content("response.reasoning_text.delta", [delta()]),
        content("response.reasoning_text.done", [done()]),
        summary("response.reasoning_summary_part.added", [part()]),
        summary("response.reasoning_summary_part.done", [part()]),
        summary("response.reasoning_summary_text.delta", [delta()]),
        summary("response.reasoning_summary_text.done", [done()]),
        of_item("response.function_call_arguments.delta", [delta()]),
        of_item("response.function_call_arguments.done", [
            required("name", text()),
            required("arguments", text()),
        ]),
        whole("response.completed"),
        whole("response.incomplete"),
        named("error", [
            required("code", text()),
            required("message", text()),
            required("param", any()),
            required("error", reference::<WireError>()),
        ]),
        whole("response.failed"),
    ])
}

/// An event whose data repeats its type.
fn named(name: &'static str, fields: impl IntoIterator<Item = Field>) -> SchemaRef {
    let common = [
        required("type", strings([name])),
        required("sequence_number", unsigned(u64::MAX as usize)),
    ];
    event_of_json(Some(name), object(common.into_iter().chain(fields)))
}

fn whole(name: &'static str) -> SchemaRef {
    named(
        name,
        [required("response", reference::<ResponseDocument>())],
    )
}

fn index(name: &'static str) -> Field {
    required(name, unsigned(u32::MAX as usize))
}

fn item(name: &'static str) -> SchemaRef {
    named(
        name,
        [
            index("output_index"),
            required("item", reference::<ResponseItem>()),
        ],
    )
}

fn of_item(name: &'static str, fields: impl IntoIterator<Item = Field>) -> SchemaRef {
    let common = [required("item_id", text()), index("output_index")];
    named(name, common.into_iter().chain(fields))
}

fn content<const N: usize>(name: &'static str, fields: [Field; N]) -> SchemaRef {
    of_item(name, [index("content_index")].into_iter().chain(fields))
}

fn summary<const N: usize>(name: &'static str, fields: [Field; N]) -> SchemaRef {
    of_item(name, [index("summary_index")].into_iter().chain(fields))
}

fn part() -> Field {
    required("part", reference::<TextPart>())
}

fn delta() -> Field {
    required("delta", text())
}

fn done() -> Field {
    required("text", text())
}

fn logprobs() -> Field {
    let scores = array(reference::<ChatTokenLogprob>(), 0..=UNLIMITED);
    required("logprobs", scores)
}
