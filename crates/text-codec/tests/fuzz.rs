//! Whatever a tokenizer or a chat template says: an error that is clear, or one that works.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

use std::path::Path;

use diagnostics::{Code, Diagnostic, escape};
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

const GGUF_WORDS: &[&str] = &[
    "gpt2",
    "llama",
    "smollm",
    "qwen2",
    "<0xFF>",
    "<0x",
    "▁",
    "Ġ",
    " ",
    "\u{a0}",
    "a b",
    "\x03\0\0\0",
];
const TOKENIZER_WORDS: &[&str] = &[
    "null",
    "-1",
    "0",
    "1e999",
    "4294967295",
    "18446744073709551615",
    "{}",
    "[]",
    "[[[[",
    "\"\"",
    "\"ByteLevel\"",
    "\"Metaspace\"",
    "\"BPE\"",
    "\"Unigram\"",
    "\"WordPiece\"",
    "\"WordLevel\"",
    "\"Regex\":\"(a*)*b\"",
    "\"Regex\":\"(?<=\"",
    "\"pattern\":{\"Regex\":\"\"}",
    "true",
    "\"▁\"",
    "\"type\":\"Sequence\"",
    "\"dropout\":0.5",
    "\"max_length\":0",
    "\"unk_id\":99",
    "\"a a\"",
    "[\"a\",\"b\"],",
    "\"\\ud800\"",
    "\"vocab\":{}",
    "\"id\":16777215",
];
const TEMPLATE_WORDS: &[&str] = &[
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "{% for a in range(99999) %}",
    "{% endfor %}",
    "messages",
    "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    " | tojson",
    " | list",
    "{{ raise_exception('no') }}",
    "{{ 'x' * 99999999 }}",
    "[1] * 99999999",
    "range(99999)",
    "{{ messages[99999].content }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ f( ",
    "{% set messages = messages + messages %}",
    " | sort",
    " | batch(0)",
    " | slice(0)",
    "'%s' | format(1)",
    " // 0",
    " % 0",
    " ** 999",
    "[::0]",
    "[::-1]",
    "{{ 1 / 0 }}",
    "namespace(",
    ".split('')",
    ".replace('', 'aaaaaaaa')",
    "{% include 'chat' %}",
    "{% extends 'chat' %}",
    "{% import 'chat' as x %}",
    "{{ self }}",
    "{{ loop }}",
    "strftime_now('%Q')",
    " ~ ",
    "é",
    "\0",
    " | indent(99999999)",
    " | center(99999999)",
    "{% block a %}{% endblock %}",
    "((((((((((((((((",
];

fn assert_clear(error: &Diagnostic) {
    let known = [
        Code::InvalidModelFile,
        Code::UnsupportedQuantization,
        Code::UnsupportedModel,
        Code::InvalidRequest,
        Code::UnsupportedParameter,
    ];
    assert!(known.contains(&error.code), "{error:?}");
    assert!(error.hint.is_some(), "{error:?}");
    assert_eq!(error.message, escape(&error.message), "{error:?}");
}

/// Everything that a worker asks of a codec.
fn use_codec(codec: Result<Codec, Diagnostic>) {
    let codec = match codec {
        Ok(codec) => codec,
        Err(error) => return assert_clear(&error),
    };
    let messages = [Message::new(Role::User, "a ab<s>")];
    for text in [
        "",
        "a",
        "ab a1 é🐝 <|end|><think>",
        "\0\n\u{ff}   aaaaaaaaaaaaaaaa",
    ] {
        match codec.encode(text) {
            Ok(ids) => {
                let _ = codec.decode(&ids);
                let known = |id: &u32| (*id as usize) < codec.vocab_size();
                assert!(ids.iter().all(known), "{ids:?}");
            }
            Err(error) => assert_clear(&error),
        }
    }
    for id in [0, 1, 5, u32::MAX] {
        let longest = codec.longest_token_bytes();
        assert!(codec.token_bytes(id).len() <= longest);
        let _ = codec.token_text(id);
    }
    let _ = codec.check_fits(10);
    if let Err(error) = codec.encode_chat(&messages, &[]) {
        assert_clear(&error);
    }
}

fn codec(template: &str) -> Result<Codec, Diagnostic> {
    let settings = Settings {
        chat_template: Some(template.to_owned()),
        begin_token: Some("<s>".into()),
        end_token: Some("</s>".into()),
        ..Settings::default()
    };
    let tokenizer = &corpus("tokenizer", &[]).files()[0].clone();
    Codec::from_tokenizer_json(tokenizer, settings)
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
        if let Ok(gguf) = Gguf::parse(&file) {
            use_codec(Codec::from_gguf(&gguf));
        }
    }

    #[test]
    fn damaged_tokenizers_are_refused_or_work(
        file in corpus("tokenizer", TOKENIZER_WORDS).damaged(),
    ) {
        use_codec(Codec::from_tokenizer_json(&file, Settings::default()));
    }

    #[test]
    fn changed_tokenizers_are_refused_or_work(
        document in corpus("tokenizer", &[]).changed_json(),
    ) {
        let file = document.to_string();
        use_codec(Codec::from_tokenizer_json(file.as_bytes(), Settings::default()));
    }

    /// A template that does not end runs out of fuel: this test ends.
    #[test]
    fn damaged_templates_are_refused_or_work(
        template in corpus("template", TEMPLATE_WORDS).damaged_text(),
        messages in messages(),
        tools in tools(),
    ) {
        let rendered = codec(&template).and_then(|codec| codec.render_chat(&messages, &tools));
        if let Err(error) = rendered {
            assert_clear(&error);
        }
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
            assert_clear(&error);
        }
    }
}
