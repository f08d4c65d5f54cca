//! Damaged tokenizers and chat templates are rejected with a proper error, or work.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod checks;

use std::path::Path;

use checks::{GGUF_WORDS, TEMPLATE_WORDS, TOKENIZER_WORDS, codec};
use fuzzing::Corpus;
use model_format::Gguf;
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};
use text_codec::{Codec, CodecSettings};
use worker_contract::{Message, Role, ToolCall, ToolDefinition};

fn corpus(name: &str, words: &[&'static str]) -> Corpus {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    Corpus::read(&directory.join(name), words).unwrap()
}

/// Ordinary texts, and texts that look like a template, JSON or terminal control sequences.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[ -~é]{0,12}",
        1 => Just("{{ 7 * 7 }}{% for".to_owned()),
        1 => Just("{\"a\": [1, null, {\"b\": \"\\u001b\"}]}".to_owned()),
        1 => Just("\0\u{1b}[2J\n\u{202e}".to_owned()),
    ]
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let role = prop_oneof![
        Just(Role::System),
        Just(Role::User),
        Just(Role::Assistant),
        Just(Role::Tool)
    ];
    let call = [text(), text(), text()].prop_map(|[id, name, arguments]| ToolCall {
        id,
        name,
        arguments,
    });
    let calls = prop::collection::vec(call, 0..3);
    let name = prop::option::of(text());
    let message = (role, text(), calls, name).prop_map(|(role, content, calls, name)| Message {
        tool_calls: calls,
        tool_call_id: name.clone(),
        name,
        ..Message::new(role, content)
    });
    prop::collection::vec(message, 0..5)
}

fn tools() -> impl Strategy<Value = Vec<ToolDefinition>> {
    let schema = |name: &str| json!({"type": "object", "properties": {name: {"type": "number"}}});
    let parameters = prop_oneof![
        Just(None),
        Just(Some(json!({}))),
        Just(Some(Value::Null)),
        Just(Some(json!([[[[u64::MAX, -1, 1e300]]]]))),
        text().prop_map(move |name| Some(schema(&name))),
    ];
    let tool = (text(), prop::option::of(text()), parameters);
    let tool = tool.prop_map(|(name, description, parameters)| ToolDefinition {
        name,
        description,
        parameters,
        strict: false,
    });
    prop::collection::vec(tool, 0..3)
}

#[test]
fn corpora_are_valid() {
    let assert_encodes = |codec: Codec| {
        let ids = codec.encode("a").unwrap();
        assert_eq!(codec.decode(&ids), "a");
    };
    for file in corpus("gguf", &[]).files() {
        assert_encodes(Codec::from_gguf(&Gguf::parse(file).unwrap()).unwrap());
    }
    for file in corpus("tokenizer", &[]).files() {
        let settings = CodecSettings::default();
        assert_encodes(Codec::from_tokenizer_json(file, settings).unwrap());
    }
    let messages = [
        Message::new(Role::User, "hi"),
        Message::new(Role::Assistant, "ho"),
    ];
    for file in corpus("template", &[]).files() {
        let codec = codec(std::str::from_utf8(file).unwrap()).unwrap();
        let text = codec.render_chat(&messages, &[]).unwrap();
        let (user, assistant) = (text.find("hi").unwrap(), text.find("ho").unwrap());
        assert!(user < assistant, "{text}");
    }
}

proptest! {
    #![proptest_config(fuzzing::cases(1500))]

    #[test]
    fn damaged_vocabularies_are_rejected_or_work(file in corpus("gguf", GGUF_WORDS).damaged()) {
        checks::vocabulary(&file);
    }

    #[test]
    fn damaged_tokenizers_are_rejected_or_work(
        file in corpus("tokenizer", TOKENIZER_WORDS).damaged(),
    ) {
        checks::tokenizer(&file);
    }

    #[test]
    fn tokenizers_with_changed_values_are_rejected_or_work(
        document in corpus("tokenizer", &[]).changed_json(),
    ) {
        checks::tokenizer(document.to_string().as_bytes());
    }

    /// An endless template runs out of fuel, so this test terminates.
    #[test]
    fn damaged_templates_are_rejected_or_work(
        template in corpus("template", TEMPLATE_WORDS).damaged_text(),
        messages in messages(),
        tools in tools(),
    ) {
        checks::template(&template, &messages, &tools);
    }

    #[test]
    fn intact_templates_render_or_reject_any_conversation(
        template in select(corpus("template", &[]).files().to_vec()),
        messages in messages(),
        tools in tools(),
    ) {
        let template = std::str::from_utf8(&template).unwrap();
        match codec(template).unwrap().render_chat(&messages, &tools) {
            Ok(prompt) => {
                let plain = |m: &&Message| m.role == Role::User && m.tool_calls.is_empty();
                // The template with macros abridges contents.
                for message in messages.iter().filter(plain).filter(|_| !template.contains("macro")) {
                    prop_assert!(prompt.contains(message.content.trim()), "{prompt:?}");
                }
            }
            Err(error) => checks::assert_input_error(&error),
        }
    }
}
