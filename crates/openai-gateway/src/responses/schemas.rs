//! Schemas of values whose Rust types say less than what is enforced.

use openapi_schema::{
    Field, SchemaRef, any_of, array, boolean, null, nullable, object, optional, required,
    schema_types, strings, text,
};

use crate::{images::input_image_part, schemas::UNLIMITED};

schema_types! {
    /// Text of the user, or the items of a conversation: messages, calls of functions, their
    /// results, and reasoning.
    ResponsesInput = any_of([text(), array(item(), 1..=UNLIMITED)]);
    /// Whether and which functions the model calls.
    ResponsesToolChoice = tool_choice();
    /// Format of the output.
    ResponsesTextFormat = text_format();
    /// What happens to an input that does not fit.
    ResponsesTruncation = strings(["auto", "disabled"]);
    /// Only false: the field is not supported.
    UnsupportedBackground = boolean(Some(false));
    /// OpenAI's code for an error that ended a response.
    ResponseErrorCode = strings(["server_error", "rate_limit_exceeded", "invalid_prompt"]);
}

fn kind(name: &'static str) -> Field {
    required("type", strings([name]))
}

fn item() -> SchemaRef {
    let parts = |name| {
        let part = object([kind(name), required("text", text())]);
        nullable(array(part, 0..=UNLIMITED))
    };
    any_of([
        object([
            optional("type", any_of([strings(["message"]), null()])),
            required(
                "role",
                strings(["system", "developer", "user", "assistant"]),
            ),
            required("content", content()),
        ]),
        object([
            kind("function_call"),
            required("call_id", text()),
            required("name", text()),
            required("arguments", text()),
        ]),
        object([
            kind("function_call_output"),
            required("call_id", text()),
            required("output", content()),
        ]),
        object([
            kind("reasoning"),
            optional("summary", parts("summary_text")),
            optional("content", parts("reasoning_text")),
        ]),
    ])
}

fn content() -> SchemaRef {
    let part = any_of([
        object([
            required("type", strings(["input_text", "output_text"])),
            required("text", text()),
        ]),
        object([kind("refusal"), required("refusal", text())]),
        input_image_part(),
    ]);
    any_of([text(), array(part, 0..=UNLIMITED)])
}

fn tool_choice() -> SchemaRef {
    let function = || object([kind("function"), required("name", text())]);
    any_of([
        strings(["auto", "none", "required"]),
        function(),
        object([
            kind("allowed_tools"),
            required("mode", strings(["auto", "required"])),
            required("tools", array(function(), 1..=UNLIMITED)),
        ]),
    ])
}

fn text_format() -> SchemaRef {
    any_of([
        object([required("type", strings(["text", "json_object"]))]),
        object([
            kind("json_schema"),
            required("schema", object([])),
            optional("strict", nullable(boolean(None))),
        ]),
    ])
}
