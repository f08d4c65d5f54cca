//! The embedded model's tokenizer, loaded from both formats, against the golden cases.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

use std::{path::PathBuf, sync::OnceLock};

use model_format::Gguf;
use proptest::prelude::*;
use serde::Deserialize;
use text_codec::{Codec, Utf8Stream};
use worker_contract::Message;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/haiku")
}

fn from_gguf() -> &'static Codec {
    static CODEC: OnceLock<Codec> = OnceLock::new();
    CODEC.get_or_init(|| {
        let file = std::fs::read(directory().join("rbee-haiku-tiny-q8_0.gguf")).unwrap();
        Codec::from_gguf(&Gguf::parse(&file).unwrap()).unwrap()
    })
}

fn from_dir() -> &'static Codec {
    static CODEC: OnceLock<Codec> = OnceLock::new();
    CODEC.get_or_init(|| Codec::from_dir(&directory()).unwrap())
}

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    messages: Vec<Message>,
    prompt_text: String,
    prompt_ids: Vec<u32>,
    output_ids: Vec<u32>,
    output_text: String,
    ended: bool,
    top5_first3: Vec<Vec<Top>>,
}

#[derive(Deserialize)]
struct Top {
    id: u32,
    token: String,
}

fn golden() -> Vec<Case> {
    let json = std::fs::read(directory().join("golden.json")).unwrap();
    let golden: Golden = serde_json::from_slice(&json).unwrap();
    assert_eq!(golden.cases.len(), 20);
    golden.cases
}

#[test]
fn encodes_golden_prompts() {
    for codec in [from_gguf(), from_dir()] {
        for case in golden() {
            assert_eq!(
                codec.render_chat(&case.messages, &[]).unwrap(),
                case.prompt_text
            );
            assert_eq!(codec.encode(&case.prompt_text).unwrap(), case.prompt_ids);
            assert_eq!(
                codec.encode_chat(&case.messages, &[]).unwrap(),
                case.prompt_ids
            );
        }
    }
}

#[test]
fn decodes_golden_outputs_at_once_and_streamed() {
    for codec in [from_gguf(), from_dir()] {
        for case in golden() {
            assert_eq!(codec.decode(&case.output_ids), case.output_text);
            let mut stream = Utf8Stream::new();
            let mut text = String::new();
            for id in &case.output_ids {
                text += &stream.push(codec.token_bytes(*id));
            }
            text += &stream.flush();
            assert_eq!(text, case.output_text);
            assert!(case.ended);
            assert!(codec.end_tokens().contains(case.output_ids.last().unwrap()));
            for top in case.top5_first3.iter().flatten() {
                assert_eq!(codec.token_text(top.id), top.token);
            }
        }
    }
}

#[test]
fn ids_beyond_the_vocabulary_have_no_text() {
    for codec in [from_gguf(), from_dir()] {
        assert_eq!(codec.vocab_size(), 2048);
        assert_eq!(codec.token_bytes(2048), b"");
        assert_eq!(codec.token_text(u32::MAX), "");
        assert_eq!(codec.check_fits(2048), Ok(()));
        assert_eq!(
            codec.check_fits(2047).unwrap_err().message,
            "invalid tokenizer: 2048 tokens, but the model has 2047"
        );
    }
}

#[test]
fn special_tokens_are_recognized_and_have_no_text() {
    for codec in [from_gguf(), from_dir()] {
        let [a, b] = ["a", "b"].map(|text| codec.encode(text).unwrap());
        assert_eq!(
            codec.encode("a<|im_end|>b").unwrap(),
            [&a[..], &[2], &b].concat()
        );
        assert_eq!(codec.token_bytes(2), b"");
        assert_eq!(codec.token_text(2), "<|im_end|>");
        assert_eq!(codec.encode("").unwrap(), [] as [u32; 0]);
    }
}

#[test]
fn long_runs_round_trip() {
    for piece in [" ", "\n", "a", "1", "é", "🐝"] {
        let text = piece.repeat(100_000);
        let ids = from_gguf().encode(&text).unwrap();
        assert_eq!(from_gguf().decode(&ids), text);
    }
}

/// Text in many scripts, with runs of spaces and digits.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "\\PC{0,8}",
        "[ \t\r\n]{1,5}",
        "[0-9]{1,6}",
        "[a-zA-Z' ]{1,12}",
        "[\u{300}-\u{36f}\u{660}-\u{669}\u{4e00}-\u{4e40}🐝👩‍🚀½Ⅷ]{1,5}",
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn both_formats_agree_and_round_trip(text in text()) {
        let ids = from_gguf().encode(&text).unwrap();
        prop_assert_eq!(&ids, &from_dir().encode(&text).unwrap());
        prop_assert_eq!(from_gguf().decode(&ids), text.as_str());
        prop_assert_eq!(from_dir().decode(&ids), text);
    }
}
