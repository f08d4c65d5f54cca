//! Properties that hold for every tokenizer and chat template, however damaged.

use diagnostics::{Code, Diagnostic, escape};
use model_format::Gguf;
use text_codec::{Codec, CodecSettings};
use worker_contract::{Message, Role, ToolDefinition};

/// The control token of [`TOKENIZER`].
const CONTROL: &str = "<|end|>";
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
    "{% generation %}",
    "{% endgeneration %}",
    "'%s' % ",
    "'%(a)s %999999999d' % ",
    "[::-1][0:2:-1]",
    "[1:][::2]",
    ".rsplit(none, 1)",
    ".zfill(99999999999)",
    ".partition('a')",
    " | tojson(indent=99999999999)",
    " | tojson(separators=(',',))",
    " + + - - not not ",
    " < 1 < 'a' in ",
    "cycler(1, 2).next()",
    "joiner()()",
    "{% set ns.x = ns.x ~ ns.x %}",
    "'\\U00110000\\777\\ud800'",
    "0x_ffffffffffffffffffffffffffffffffffffff",
    "1e999999999",
    "{% raw %}",
    "{% elif a %}",
    "\u{fdd0}",
    "<|end|>",
    "<|e",
    "nd|>",
    ".strip()",
    "[1:]",
];

/// Asserts that an error blames the input, has a hint and is escaped.
pub fn assert_input_error(error: &Diagnostic) {
    let known = [
        Code::InvalidModelFile,
        Code::UnsupportedQuantization,
        Code::UnsupportedModel,
        Code::InvalidRequest,
        Code::UnsupportedParameter,
        Code::NoChatTemplate,
    ];
    assert!(known.contains(&error.code), "{error:?}");
    assert!(error.hint.is_some(), "{error:?}");
    assert_eq!(error.message, escape(&error.message), "{error:?}");
}

/// Asserts that a codec was rejected, or is consistent in everything that a worker uses.
fn assert_consistent(codec: Result<Codec, Diagnostic>) {
    let codec = match codec {
        Ok(codec) => codec,
        Err(error) => return assert_input_error(&error),
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
                let known = |id: &u32| (*id as usize) < codec.vocab_size();
                assert!(ids.iter().all(known), "{ids:?}");
                let bytes: Vec<&[u8]> = ids.iter().map(|id| codec.token_bytes(*id)).collect();
                let bytes = bytes.concat();
                let text = String::from_utf8_lossy(&bytes);
                let decoded = codec.decode(&ids);
                assert!(
                    text == decoded || text.strip_prefix(' ') == Some(&decoded),
                    "{decoded:?}"
                );
            }
            Err(error) => assert_input_error(&error),
        }
    }
    for id in [0, 1, 5, u32::MAX] {
        let longest = codec.longest_token_bytes();
        assert!(codec.token_bytes(id).len() <= longest);
        let exists = (id as usize) < codec.vocab_size();
        assert!(exists || codec.token_text(id).is_empty());
    }
    let fits = |size: usize| {
        let ends_fit = codec.end_tokens().iter().all(|id| (*id as usize) < size);
        codec.vocab_size() <= size && ends_fit
    };
    for size in [10, codec.vocab_size()] {
        assert_eq!(codec.check_fits(size).is_ok(), fits(size), "{size}");
    }
    if let Err(error) = codec.encode_chat(&messages, &[]) {
        assert_input_error(&error);
    }
}

/// A codec with the chat template `template`.
pub fn codec(template: &str) -> Result<Codec, Diagnostic> {
    let settings = CodecSettings {
        chat_template: Some(template.to_owned()),
        bos_token: Some("<s>".into()),
        eos_token: Some("</s>".into()),
        ..CodecSettings::default()
    };
    Codec::from_tokenizer_json(TOKENIZER, settings)
}

/// A GGUF vocabulary is rejected or works.
pub fn vocabulary(file: &[u8]) {
    if let Ok(gguf) = Gguf::parse(file) {
        assert_consistent(Codec::from_gguf(&gguf));
    }
}

/// A `tokenizer.json` is rejected or works.
pub fn tokenizer(file: &[u8]) {
    assert_consistent(Codec::from_tokenizer_json(file, CodecSettings::default()));
}

/// A chat template is rejected, or renders or rejects the conversation. It encodes what it renders.
pub fn template(template: &str, messages: &[Message], tools: &[ToolDefinition]) {
    let codec = match codec(template) {
        Ok(codec) => codec,
        Err(error) => return assert_input_error(&error),
    };
    let rendered = codec.render_chat(messages, tools);
    let encoded = codec.encode_chat(messages, tools);
    assert_eq!(
        rendered.is_ok(),
        encoded.is_ok(),
        "{rendered:?} {encoded:?}"
    );
    if let (Ok(text), Ok(ids)) = (&rendered, &encoded) {
        let spelled = text.matches(CONTROL).count();
        let control = ids.iter().filter(|id| codec.token_text(**id) == CONTROL);
        assert!(control.count() <= spelled, "{text:?}");
    }
    for error in [rendered.err(), encoded.err()].into_iter().flatten() {
        assert_input_error(&error);
    }
}
