use diagnostics::Diagnostic;
use serde_json::{Value, json};

use crate::unsupported;

/// How a byte-level vocabulary of a GGUF file is applied.
#[derive(Debug)]
pub(crate) struct PreTokenizer {
    /// In the form of `tokenizer.json`.
    pub(crate) splits: Value,
    /// In the form of `tokenizer.json`.
    pub(crate) normalizer: Option<Value>,
    /// A piece that is a token as a whole stays whole, whatever the merges say.
    pub(crate) ignore_merges: bool,
    /// The begin token comes first unless the file says otherwise.
    pub(crate) adds_begin: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// What Llama 3 and Qwen 2 have in common; DIGITS is how many digits go together.
const CONTRACTIONS_THEN_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The vocabulary of GPT-4o (o200k): words end where a capital follows a small letter, and
/// keep the contraction behind them.
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Names of `tokenizer.ggml.pre` that are understood.
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

/// The rules that a GGUF file names in `tokenizer.ggml.pre`.
pub(crate) fn named(name: &str) -> Result<PreTokenizer, Diagnostic> {
    let words = |digits: &str| CONTRACTIONS_THEN_WORDS.replace("DIGITS", digits);
    let rules = match name {
        "gpt-2" => PreTokenizer::of(vec![split(GPT2)]),
        // The rules of files that were written before GGUF named any.
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
            adds_begin: true,
            ..PreTokenizer::of(vec![split(&words(r"\p{N}{1,3}"))])
        },
        // What files of Phi-4 name, and of Phi-4-mini.
        "dbrx" => PreTokenizer::of(vec![split(&words(r"\p{N}{1,3}"))]),
        "gpt-4o" => PreTokenizer::of(vec![split(O200K)]),
        "qwen2" => PreTokenizer {
            normalizer: Some(json!({"type": "NFC"})),
            ..PreTokenizer::of(vec![split(&words(r"\p{N}"))])
        },
        other => return Err(unsupported("pre-tokenizer", other, NAMES)),
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
            adds_begin: false,
        }
    }
}

fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}
