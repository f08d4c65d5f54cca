use diagnostics::Diagnostic;
use serde_json::{Value, json};

use crate::errors;

/// Rules for applying the byte-level vocabulary of a GGUF file.
#[derive(Debug)]
pub(crate) struct PreTokenizer {
    /// Pre-tokenizer as in `tokenizer.json`.
    pub(crate) splits: Value,
    /// Normalizer as in `tokenizer.json`.
    pub(crate) normalizer: Option<Value>,
    /// Whether a split that is itself a token bypasses the merges.
    pub(crate) ignore_merges: bool,
    /// Whether a prompt starts with the begin-of-sequence token by default.
    pub(crate) add_bos: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Common pattern of Llama 3 and Qwen 2; DIGITS stands for the pattern of numbers.
const CONTRACTIONS_THEN_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Pattern of GPT-4o (o200k): a word ends where an upper case letter follows a lower case one,
/// and includes the contraction after it.
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Supported values of `tokenizer.ggml.pre`.
const NAMES: &[&str] = &[
    "dbrx",
    "default",
    "gpt-2",
    "gpt-4o",
    "llama-bpe",
    "llama3",
    "qwen2",
    "smollm",
    "starcoder",
];

/// Returns the rules for a value of `tokenizer.ggml.pre`.
pub(crate) fn named(name: &str) -> Result<PreTokenizer, Diagnostic> {
    let words = |digits: &str| CONTRACTIONS_THEN_WORDS.replace("DIGITS", digits);
    let rules = match name {
        "gpt-2" => PreTokenizer::of(vec![split(GPT2)]),
        // Rules for files written before GGUF had this key.
        "default" => PreTokenizer::of(vec![
            split(r"[\p{P}\$\+<=>\^~\|]+"),
            split(GPT2),
            split(r"\p{N}+"),
            split("[0-9][0-9][0-9]"),
        ]),
        "smollm" | "starcoder" => PreTokenizer::of(vec![
            json!({"type": "Digits", "individual_digits": true}),
            split(GPT2),
        ]),
        "llama-bpe" | "llama3" => PreTokenizer {
            ignore_merges: true,
            add_bos: true,
            ..PreTokenizer::of(vec![split(&words(r"\p{N}{1,3}"))])
        },
        // Phi-4; Phi-4-mini uses `gpt-4o`.
        "dbrx" => PreTokenizer::of(vec![split(&words(r"\p{N}{1,3}"))]),
        "gpt-4o" => PreTokenizer::of(vec![split(O200K)]),
        "qwen2" => PreTokenizer {
            normalizer: Some(json!({"type": "NFC"})),
            ..PreTokenizer::of(vec![split(&words(r"\p{N}"))])
        },
        other => return Err(errors::unsupported("pre-tokenizer", other, NAMES)),
    };
    Ok(rules)
}

impl PreTokenizer {
    fn of(mut steps: Vec<Value>) -> Self {
        steps.push(json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false
        }));
        Self {
            splits: json!({"type": "Sequence", "pretokenizers": steps}),
            normalizer: None,
            ignore_merges: false,
            add_bos: false,
        }
    }
}

fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}
