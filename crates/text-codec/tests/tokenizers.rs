//! Small tokenizers of each supported kind, and damaged ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

use diagnostics::{Code, Diagnostic};
use model_format::Gguf;
use proptest::prelude::*;
use serde_json::json;
use text_codec::{Codec, CodecSettings};

/// Builder of a GGUF file without tensors.
#[derive(Default)]
struct File {
    count: u64,
    body: Vec<u8>,
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl File {
    fn put(mut self, key: &str, kind: u32, payload: &[u8]) -> Self {
        self.count += 1;
        self.body.extend(string(key));
        self.body.extend(kind.to_le_bytes());
        self.body.extend(payload);
        self
    }
    fn text(self, key: &str, value: &str) -> Self {
        self.put(key, 8, &string(value))
    }
    fn number(self, key: &str, value: u32) -> Self {
        self.put(key, 4, &value.to_le_bytes())
    }
    fn array(self, key: &str, kind: u32, items: &[Vec<u8>]) -> Self {
        let head = [
            kind.to_le_bytes().as_slice(),
            &(items.len() as u64).to_le_bytes(),
        ]
        .concat();
        self.put(key, 9, &[head, items.concat()].concat())
    }
    fn texts(self, key: &str, values: &[&str]) -> Self {
        let items: Vec<_> = values.iter().map(|v| string(v)).collect();
        self.array(key, 8, &items)
    }
    fn codec(self) -> Result<Codec, Diagnostic> {
        let mut file = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend(self.count.to_le_bytes());
        file.extend(self.body);
        Codec::from_gguf(&Gguf::parse(&file)?)
    }
}

fn byte_level(pre: &str, tokens: &[&str], merges: &[&str]) -> File {
    File::default()
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", pre)
        .texts("tokenizer.ggml.tokens", tokens)
        .texts("tokenizer.ggml.merges", merges)
}

#[test]
fn pre_tokenizers_group_digits() {
    let tokens = ["1", "2", "3", "12", "23", "123", "Ġ"];
    let merges = ["1 2", "2 3", "12 3"];
    for (pre, expected) in [
        ("gpt-2", vec![5, 5]),
        ("llama-bpe", vec![5, 5]),
        ("qwen2", vec![0, 1, 2, 0, 1, 2]),
        ("smollm", vec![0, 1, 2, 0, 1, 2]),
        ("default", vec![5, 5]),
        ("dbrx", vec![5, 5]),
        ("gpt-4o", vec![5, 5]),
    ] {
        let codec = byte_level(pre, &tokens, &merges).codec().unwrap();
        assert_eq!(codec.encode("123123").unwrap(), expected, "{pre}");
    }
}

#[test]
fn gpt_4o_splits_words_before_upper_case() {
    let tokens = ["a", "B", "c", "'", "s", "aB", "Bc", "c'", "c's", "'s"];
    let merges = ["a B", "B c", "c '", "c' s", "' s"];
    let ids = |pre| {
        let codec = byte_level(pre, &tokens, &merges).codec().unwrap();
        codec.encode("aBc's").unwrap()
    };
    assert_eq!(ids("gpt-4o"), [0, 6, 9]);
    assert_eq!(ids("dbrx"), [5, 2, 9]);
}

/// Gemma 4: merges as in byte-level vocabularies, and texts with tokens for single bytes.
#[test]
fn merges_of_texts_join_words_and_fall_back_to_bytes() {
    let tokens = [
        "<unk>", "<0xC3>", "<0xA9>", "a", "b", "▁", "▁b", "a▁b", "\n",
    ];
    let kinds: Vec<_> = [2_i32, 6, 6, 1, 1, 1, 1, 1, 1]
        .iter()
        .map(|kind| kind.to_le_bytes().to_vec())
        .collect();
    for (model, pre) in [("gemma4", None), ("gpt2", Some("sarvam-moe"))] {
        let mut file = File::default()
            .text("tokenizer.ggml.model", model)
            .texts("tokenizer.ggml.tokens", &tokens)
            .texts("tokenizer.ggml.merges", &["▁ b", "a ▁b"])
            .array("tokenizer.ggml.token_type", 5, &kinds);
        if let Some(pre) = pre {
            file = file.text("tokenizer.ggml.pre", pre);
        }
        let codec = file.codec().unwrap();
        let ids = codec.encode("a bé\nb").unwrap();
        assert_eq!(ids, [7, 1, 2, 8, 4], "{model}");
        assert_eq!(codec.decode(&ids), "a bé\nb");
    }
}

#[test]
fn llama3_prefers_whole_tokens_over_merges() {
    // No merge results in `abc`; only `ignore_merges` finds it.
    let tokens = ["a", "b", "c", "bc", "abc"];
    let ids = |pre| {
        byte_level(pre, &tokens, &["b c"])
            .codec()
            .unwrap()
            .encode("abc")
            .unwrap()
    };
    assert_eq!(ids("llama-bpe"), [4]);
    assert_eq!(ids("gpt-2"), [0, 3]);
}

#[test]
fn reads_bos_and_end_tokens_from_gguf() {
    let kinds: Vec<_> = [1_i32, 3, 3, 4]
        .iter()
        .map(|k| k.to_le_bytes().to_vec())
        .collect();
    let file = || {
        byte_level("gpt-2", &["a", "<s>", "<|eot_id|>", "<think>"], &[])
            .array("tokenizer.ggml.token_type", 5, &kinds)
            .number("tokenizer.ggml.bos_token_id", 1)
            .number("tokenizer.ggml.eos_token_id", 1)
    };
    let codec = file().codec().unwrap();
    assert_eq!(codec.encode("a").unwrap(), [0]);
    assert_eq!(
        codec.end_tokens(),
        [1, 2],
        "the declared token and the end-of-turn token"
    );
    assert_eq!(
        codec.decode(&[1, 3, 0]),
        "<think>a",
        "user-defined tokens have text"
    );
    let codec = file()
        .put("tokenizer.ggml.add_bos_token", 7, &[1])
        .codec()
        .unwrap();
    assert_eq!(codec.encode("a<think>").unwrap(), [1, 0, 3]);
    assert_eq!(codec.encode("<s>a").unwrap(), [1, 0], "added once");
}

fn encode_to_embed(codec: &Codec, text: &str) -> Vec<u32> {
    let mut tokens = codec.encode(text).unwrap();
    codec.append_end_token(&mut tokens);
    tokens
}

#[test]
fn texts_to_embed_end_with_eos_if_gguf_adds_it() {
    let file = || {
        let ids: Vec<_> = [1_i32, 3, 3]
            .iter()
            .map(|n| n.to_le_bytes().to_vec())
            .collect();
        byte_level("gpt-2", &["a", "<s>", "</s>"], &[])
            .array("tokenizer.ggml.token_type", 5, &ids)
            .number("tokenizer.ggml.bos_token_id", 1)
            .number("tokenizer.ggml.eos_token_id", 2)
            .put("tokenizer.ggml.add_bos_token", 7, &[1])
    };
    let codec = file().codec().unwrap();
    assert_eq!(encode_to_embed(&codec, "a"), [1, 0]);
    let codec = file()
        .put("tokenizer.ggml.add_eos_token", 7, &[1])
        .codec()
        .unwrap();
    assert_eq!(encode_to_embed(&codec, "a"), [1, 0, 2]);
    assert_eq!(encode_to_embed(&codec, "a</s>"), [1, 0, 2]);
    assert_eq!(codec.encode("a").unwrap(), [1, 0], "a prompt has no end");
}

#[test]
fn tokenizer_config_controls_bos_and_eos() {
    let special = |id, content| {
        json!({"id": id, "content": content, "special": true, "single_word": false,
               "lstrip": false, "rstrip": false, "normalized": false})
    };
    let begin = json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let tokenizer = json!({
        "added_tokens": [special(1, "<s>"), special(2, "</s>")],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "post_processor": {
            "type": "TemplateProcessing", "single": [begin, text], "pair": [text, text],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true},
        "model": {"type": "BPE", "vocab": {"a": 0, "<s>": 1, "</s>": 2}, "merges": []},
    });
    let mut without = tokenizer.clone();
    without["post_processor"] = json!(null);
    let tokens = |tokenizer: &serde_json::Value, config: serde_json::Value, text: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut complete = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}});
        complete
            .as_object_mut()
            .unwrap()
            .extend(config.as_object().unwrap().clone());
        std::fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        std::fs::write(
            dir.path().join("tokenizer_config.json"),
            complete.to_string(),
        )
        .unwrap();
        encode_to_embed(&Codec::from_dir(dir.path()).unwrap(), text)
    };
    for (tokenizer, config, text, expected) in [
        (&tokenizer, json!({}), "a", vec![1, 0]),
        (&without, json!({}), "a", vec![0]),
        (&tokenizer, json!({"add_bos_token": true}), "a", vec![1, 0]),
        (&without, json!({"add_bos_token": true}), "a", vec![1, 0]),
        (&tokenizer, json!({"add_bos_token": false}), "a", vec![0]),
        (
            &without,
            json!({"add_bos_token": false}),
            "<s>a",
            vec![1, 0],
        ),
        (&without, json!({"add_eos_token": true}), "a", vec![0, 2]),
        (&without, json!({"add_eos_token": false}), "a", vec![0]),
    ] {
        assert_eq!(
            tokens(tokenizer, config.clone(), text),
            expected,
            "{config}"
        );
    }
}

#[test]
fn names_unsupported_tokenizers() {
    let error = byte_level("nope", &["a"], &[]).codec().err().unwrap();
    assert_eq!(error.code, Code::UnsupportedModel);
    assert_eq!(error.message, "pre-tokenizer `nope` is not supported");
    let hint = error.hint.unwrap();
    let names = hint.strip_prefix("use a model whose pre-tokenizer is one of: ");
    assert!(names.unwrap().split(", ").any(|name| name == "qwen2"));
    let error = File::default()
        .text("tokenizer.ggml.model", "t5")
        .texts("tokenizer.ggml.tokens", &["a"])
        .codec()
        .err()
        .unwrap();
    assert_eq!(error.code, Code::UnsupportedModel);
    assert_eq!(error.message, "tokenizer `t5` is not supported");
}

#[test]
fn rejects_inconsistent_gguf_tokenizers() {
    for merges in [["a b"], ["ab"], [""]] {
        let error = byte_level("gpt-2", &["a", "b"], &merges)
            .codec()
            .err()
            .unwrap();
        assert_eq!(error.code, Code::InvalidModelFile);
        assert_eq!(
            error.message,
            format!(
                "invalid tokenizer: the result of merge `{}` is not a token",
                merges[0]
            )
        );
    }
    let kinds = [1_i32.to_le_bytes().to_vec()];
    let file = byte_level("gpt-2", &["a", "b"], &[]);
    let error = file
        .array("tokenizer.ggml.token_type", 5, &kinds)
        .codec()
        .err()
        .unwrap();
    assert_eq!(error.message, "invalid tokenizer: 2 tokens, but 1 types");
}

/// A SentencePiece vocabulary: unknown, BOS, EOS, 256 bytes, then pieces by rank.
fn sentencepiece(pieces: &[&str]) -> Codec {
    sentencepiece_file(pieces, &[]).codec().unwrap()
}

/// The same with special and user-defined tokens after the pieces.
fn sentencepiece_file(pieces: &[&str], added: &[(&str, i32)]) -> File {
    let bytes: Vec<String> = (0..256).map(|b| format!("<0x{b:02X}>")).collect();
    let mut tokens = vec!["<unk>", "<s>", "</s>"];
    tokens.extend(bytes.iter().map(String::as_str));
    tokens.extend(pieces);
    tokens.extend(added.iter().map(|(token, _)| token));
    let le = |n: i32| n.to_le_bytes().to_vec();
    let kind = |i: usize| match i {
        0 => 2,
        1 | 2 => 3,
        3..259 => 6,
        _ => added
            .get(i.wrapping_sub(259 + pieces.len()))
            .map_or(1, |(_, kind)| *kind),
    };
    let kinds: Vec<_> = (0..tokens.len()).map(|i| le(kind(i))).collect();
    let scores: Vec<_> = (0..tokens.len())
        .map(|i| {
            (if i < 259 { 0.0 } else { -((i - 259) as f32) })
                .to_le_bytes()
                .to_vec()
        })
        .collect();
    File::default()
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &tokens)
        .array("tokenizer.ggml.token_type", 5, &kinds)
        .array("tokenizer.ggml.scores", 6, &scores)
        .number("tokenizer.ggml.bos_token_id", 1)
        .number("tokenizer.ggml.eos_token_id", 2)
}

/// Reference implementation: joins the pair with the best score, leftmost first.
fn join_by_score(pieces: &[&str], text: &str) -> Vec<u32> {
    let rank = |s: &str| pieces.iter().position(|p| *p == s);
    let mut parts: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let best = (1..parts.len())
            .filter_map(|i| rank(&(parts[i - 1].clone() + &parts[i])).map(|r| (r, i)))
            .min();
        let Some((_, i)) = best else { break };
        let right = parts.remove(i);
        parts[i - 1] += &right;
    }
    let ids = |part: &String| match rank(part) {
        Some(r) => vec![259 + r as u32],
        None => part.bytes().map(|b| 3 + u32::from(b)).collect(),
    };
    parts.iter().flat_map(ids).collect()
}

const PIECES: &[&str] = &[
    "▁a", "ab", "bc", "▁ab", "abc", "▁abc", "ca", "bca", "▁▁", "▁", "a", "b", "c", "é", "cé",
];

#[test]
fn sentencepiece_prepends_space_and_falls_back_to_bytes() {
    let codec = sentencepiece(PIECES);
    assert_eq!(codec.encode("a").unwrap(), [1, 259]);
    let bee = codec.encode("🐝").unwrap();
    assert_eq!(
        bee[2..],
        "🐝".bytes().map(|b| 3 + u32::from(b)).collect::<Vec<_>>()
    );
    assert_eq!(codec.decode(&bee), "🐝");
    assert_eq!(codec.end_tokens(), [2]);
    assert_eq!(codec.token_bytes(259), b" a");
}

#[test]
fn phi3_special_tokens_absorb_following_space() {
    let added = [("<|user|>", 3), ("<|end|>", 3), ("<|endoftext|>", 3)];
    let file = || sentencepiece_file(&["▁a", "a", "▁"], &added);
    let [user, end, text_end] = [262, 263, 264];
    let codec = file().text("general.architecture", "phi3").codec().unwrap();
    let text = "<|user|>\na<|end|> \n<|endoftext|>\n";
    let ids = [1, user, 259, end, text_end, 261, 3 + 10];
    assert_eq!(codec.encode(text).unwrap(), ids);
    assert_eq!(codec.end_tokens(), [2, 263, 264]);
    let codec = file()
        .text("general.architecture", "llama")
        .codec()
        .unwrap();
    let ids = [
        1,
        user,
        261,
        3 + 10,
        260,
        end,
        261,
        261,
        3 + 10,
        text_end,
        261,
        3 + 10,
    ];
    assert_eq!(codec.encode(text).unwrap(), ids);
}

#[test]
fn gemma_gguf_does_not_prepend_space() {
    let added = [
        ("<start_of_turn>", 3),
        ("<end_of_turn>", 3),
        ("\n\n", 4),
        ("  ", 4),
    ];
    let file = sentencepiece_file(&["▁a", "a", "▁"], &added)
        .text("general.architecture", "gemma3")
        .put("tokenizer.ggml.add_space_prefix", 7, &[0]);
    let codec = file.codec().unwrap();
    let [start, end, lines, spaces] = [262, 263, 264, 265];
    let text = "<start_of_turn>a a\n\na  <end_of_turn>\n";
    let ids = [1, start, 260, 259, lines, 260, spaces, end, 3 + 10];
    assert_eq!(codec.encode(text).unwrap(), ids);
    assert_eq!(codec.decode(&ids), "a a\n\na  \n");
    assert_eq!(codec.end_tokens(), [2, 263]);
}

/// The `tokenizer.json` has the components of Gemma's.
#[test]
fn reads_gemma_tokenizer_json() {
    let mut vocabulary: serde_json::Map<String, serde_json::Value> = (0..256)
        .map(|b| (format!("<0x{b:02X}>"), (b + 4).into()))
        .collect();
    for (token, id) in [
        ("<pad>", 0),
        ("<eos>", 1),
        ("<bos>", 2),
        ("<unk>", 3),
        ("a", 260),
        ("▁", 261),
        ("▁a", 262),
        ("<end_of_turn>", 263),
        ("▁▁", 264),
    ] {
        vocabulary.insert(token.into(), id.into());
    }
    let special = |id: u32, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true
        })
    };
    // Runs of spaces are added tokens, used for indentation.
    let mut spaces = special(264, "▁▁");
    spaces["special"] = false.into();
    let document = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [
            special(0, "<pad>"), special(1, "<eos>"), special(2, "<bos>"),
            special(3, "<unk>"), special(263, "<end_of_turn>"), spaces
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {
            "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
            "invert": false
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<bos>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}}
            ],
            "pair": [],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}}
        },
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}
        ]},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false, "vocab": vocabulary,
            "merges": [["▁", "a"]]
        }
    });
    let settings = CodecSettings {
        end_tokens: vec![1, 263],
        ..CodecSettings::default()
    };
    let codec = Codec::from_tokenizer_json(document.to_string().as_bytes(), settings).unwrap();
    let ids = [2, 260, 262, 263, 4 + 10];
    assert_eq!(codec.encode("a a<end_of_turn>\n").unwrap(), ids);
    assert_eq!(codec.decode(&ids), "a a\n");
    assert_eq!(codec.decode(&[264, 260]), "  a");
    assert_eq!(codec.end_tokens(), [1, 263]);
}

proptest! {
    #[test]
    fn sentencepiece_equals_the_reference(text in "[abcé x🐝]{0,14}") {
        let codec = sentencepiece(PIECES);
        let ids = codec.encode(&text).unwrap();
        prop_assert_eq!(ids[0], 1);
        let expected = match text.as_str() {
            "" => vec![],
            text => join_by_score(PIECES, &format!("▁{}", text.replace(' ', "▁"))),
        };
        prop_assert_eq!(&ids[1..], expected);
        prop_assert_eq!(codec.decode(&ids), text);
    }

    #[test]
    fn byte_level_codec_round_trips(text in "\\PC{0,40}") {
        let codec = Codec::byte_level();
        let ids = codec.encode(&text).unwrap();
        prop_assert_eq!(codec.decode(&ids), text);
    }
}

#[test]
fn byte_level_codec_has_an_end_token() {
    let codec = Codec::byte_level();
    assert_eq!(codec.encode("a<|end|>b").unwrap(), [97, 256, 98]);
    assert_eq!(codec.end_tokens(), [256]);
    assert_eq!(codec.vocab_size(), 257);
    assert_eq!(codec.decode(&[97, 256]), "a");
}

#[test]
fn rejects_faulty_tokenizer_json() {
    let tokenizer = |merges: serde_json::Value, decoder: serde_json::Value| {
        let document = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": null, "post_processor": null,
            "decoder": decoder,
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": merges},
        });
        Codec::from_tokenizer_json(document.to_string().as_bytes(), CodecSettings::default())
    };
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    assert!(tokenizer(json!([]), byte_level.clone()).is_ok());
    for merges in [json!([["a", "b"]]), json!(["a b"]), json!([["a", "x"]])] {
        let error = tokenizer(merges, byte_level.clone()).err().unwrap();
        assert_eq!(error.code, Code::InvalidModelFile);
        assert_eq!(
            error.message,
            "invalid tokenizer: a merge results in 2 bytes, but the longest token has 1"
        );
    }
    let error = tokenizer(json!([3]), byte_level.clone()).err().unwrap();
    assert_eq!(error.code, Code::InvalidModelFile, "{error}");
    let post_processor = |piece: serde_json::Value, ids: serde_json::Value| {
        let document = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": null, "decoder": byte_level,
            "post_processor": {"type": "Sequence", "processors": [{
                "type": "TemplateProcessing", "single": [piece], "pair": [],
                "special_tokens": {"b": {"id": "b", "ids": ids, "tokens": ["b"]}},
            }]},
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
        });
        Codec::from_tokenizer_json(document.to_string().as_bytes(), CodecSettings::default())
    };
    let special = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    assert!(post_processor(special("b"), json!([1])).is_ok());
    let undefined = "the post-processor adds the undefined token `c`";
    for (piece, ids, reason) in [
        (special("c"), json!([1]), undefined),
        (json!({"SpecialToken": ["c", 0]}), json!([1]), undefined),
        (
            json!({"Sequence": {"id": "B", "type_id": 0}}),
            json!([1]),
            "the post-processor template for one text refers to a second text",
        ),
        (
            special("b"),
            json!([2]),
            "the post-processor adds token 2, but the vocabulary has 2 tokens",
        ),
        (
            special("b"),
            json!([1, 1]),
            "a token of the post-processor has a different number of ids and names",
        ),
    ] {
        let error = post_processor(piece, ids).err().unwrap();
        assert_eq!(error.code, Code::InvalidModelFile);
        assert_eq!(error.message, format!("invalid tokenizer: {reason}"));
    }
    let word_piece = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
    let error = tokenizer(json!([]), word_piece).err().unwrap();
    assert_eq!(error.code, Code::UnsupportedModel);
    assert_eq!(
        error.message,
        "tokenizer decoder `WordPiece` is not supported"
    );
    let error = Codec::from_tokenizer_json(b"{", CodecSettings::default())
        .err()
        .unwrap();
    assert_eq!(error.code, Code::InvalidModelFile);
    assert_eq!(
        error.message,
        "invalid tokenizer: cannot parse JSON: EOF while parsing an object at line 1 column 1"
    );
}
