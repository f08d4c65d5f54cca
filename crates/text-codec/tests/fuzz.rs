//! Whatever a tokenizer or a chat template says: an error that is clear, or one that works.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod checks;

use std::path::Path;

use checks::{GGUF_WORDS, TEMPLATE_WORDS, TOKENIZER_WORDS, codec};
use fuzzing::Corpus;
use model_format::Gguf;
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};
use text_codec::{Codec, Settings};
use worker_contract::{Message, Role, ToolCall, ToolDefinition};

fn corpus(name: &str, words: &[&'static str]) -> Corpus {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    Corpus::read(&folder.join(name), words).unwrap()
}

/// Texts that clients send, and some that look like a template or like JSON.
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
    });
    prop::collection::vec(tool, 0..3)
}

#[test]
fn the_corpora_are_valid() {
    for file in corpus("gguf", &[]).files() {
        Codec::from_gguf(&Gguf::parse(file).unwrap()).unwrap();
    }
    let accepted = |file: &Vec<u8>| {
        Codec::from_tokenizer_json(file, Settings::default())
            .map(|codec| codec.encode("a").unwrap())
    };
    for file in corpus("tokenizer", &[]).files() {
        assert!(!accepted(file).unwrap().is_empty());
    }
    let talk = [
        Message::new(Role::User, "hi"),
        Message::new(Role::Assistant, "ho"),
    ];
    for file in corpus("template", &[]).files() {
        let codec = codec(std::str::from_utf8(file).unwrap()).unwrap();
        let text = codec.render_chat(&talk, &[]).unwrap();
        assert!(text.contains("hi"), "{text}");
    }
}

proptest! {
    #![proptest_config(fuzzing::cases(1500))]

    #[test]
    fn damaged_vocabularies_are_refused_or_work(file in corpus("gguf", GGUF_WORDS).damaged()) {
        checks::vocabulary(&file);
    }

    #[test]
    fn damaged_tokenizers_are_refused_or_work(
        file in corpus("tokenizer", TOKENIZER_WORDS).damaged(),
    ) {
        checks::tokenizer(&file);
    }

    #[test]
    fn changed_tokenizers_are_refused_or_work(
        document in corpus("tokenizer", &[]).changed_json(),
    ) {
        checks::tokenizer(document.to_string().as_bytes());
    }

    /// A template that does not end runs out of fuel: this test ends.
    #[test]
    fn damaged_templates_are_refused_or_work(
        template in corpus("template", TEMPLATE_WORDS).damaged_text(),
        messages in messages(),
        tools in tools(),
    ) {
        checks::template(&template, &messages, &tools);
    }

    /// Whatever a client says and defines, a whole template writes it or refuses it.
    #[test]
    fn any_conversation_is_written_or_refused(
        template in select(corpus("template", &[]).files().to_vec()),
        messages in messages(),
        tools in tools(),
    ) {
        let codec = codec(std::str::from_utf8(&template).unwrap()).unwrap();
        if let Err(error) = codec.render_chat(&messages, &tools) {
            checks::assert_clear(&error);
        }
    }
}
