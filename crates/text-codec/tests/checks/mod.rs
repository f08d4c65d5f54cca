//! What holds for whatever a tokenizer or a chat template says.

use diagnostics::{Code, Diagnostic, escape};
use model_format::Gguf;
use text_codec::{Codec, Settings};
use worker_contract::{Message, Role, ToolDefinition};

const TOKENIZER: &[u8] = include_bytes!("../corpus/tokenizer/byte-level.json");

pub const GGUF_WORDS: &[&str] = &[
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
pub const TOKENIZER_WORDS: &[&str] = &[
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
pub const TEMPLATE_WORDS: &[&str] = &[
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

pub fn assert_clear(error: &Diagnostic) {
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
pub fn use_codec(codec: Result<Codec, Diagnostic>) {
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

/// A codec with that chat template.
pub fn codec(template: &str) -> Result<Codec, Diagnostic> {
    let settings = Settings {
        chat_template: Some(template.to_owned()),
        begin_token: Some("<s>".into()),
        end_token: Some("</s>".into()),
        ..Settings::default()
    };
    Codec::from_tokenizer_json(TOKENIZER, settings)
}

/// The vocabulary of a GGUF file is refused or works.
pub fn vocabulary(file: &[u8]) {
    if let Ok(gguf) = Gguf::parse(file) {
        use_codec(Codec::from_gguf(&gguf));
    }
}

/// A `tokenizer.json` is refused or works.
pub fn tokenizer(file: &[u8]) {
    use_codec(Codec::from_tokenizer_json(file, Settings::default()));
}

/// A chat template is refused, writes a conversation, or refuses to.
pub fn template(template: &str, messages: &[Message], tools: &[ToolDefinition]) {
    let rendered = codec(template).and_then(|codec| codec.render_chat(messages, tools));
    if let Err(error) = rendered {
        assert_clear(&error);
    }
}
