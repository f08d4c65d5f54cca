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

/// Pattern of Tekken (Mistral Nemo and later): as [`O200K`], without contractions.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words of Qwen 3.5: as Qwen 2, and combining marks belong to words.
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Last pattern of DeepSeek V3, after numbers and Chinese and Japanese characters.
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const CJK: &str = r"[一-龥\x{3040}-ゟ゠-ヿ]+";
const SEED: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const UFAKZEKA: &str =
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words between punctuation and spaces: Bloom and its relatives.
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

/// A rule and the values of `tokenizer.ggml.pre` that name it, as in llama.cpp.
const RULES: &[(Rule, &[&str])] = &[
    (Rule::Default, &["default"]),
    (
        Rule::Gpt2,
        &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "exaone4",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "jina-v1-en",
            "jina-v2-code",
            "roberta-bpe",
        ],
    ),
    (
        Rule::Digits,
        &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
    ),
    (
        Rule::Llama3,
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
    ),
    // Phi-4 (`dbrx`); Phi-4-mini uses `gpt-4o`.
    (Rule::Llama3Merges, &["dbrx", "smaug-bpe", "chatglm-bpe"]),
    (Rule::Llama3WholeWords, &["glm4", "glm5"]),
    (Rule::MiniCpm5, &["minicpm5"]),
    (
        Rule::Qwen2,
        &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez"],
    ),
    (
        Rule::Qwen2AsIs,
        &["stablelm2", "hunyuan", "solar-open", "grok-2"],
    ),
    (Rule::Qwen35, &["qwen35"]),
    (
        Rule::O200k,
        &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
    ),
    (Rule::Tekken, &["tekken"]),
    (
        Rule::DeepSeek3,
        &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
    ),
    (Rule::DeepSeekCoder, &["deepseek-coder"]),
    (Rule::Falcon, &["falcon"]),
    (Rule::Bloom, &["bloom", "poro-chat", "gpt3-finnish"]),
    (Rule::Viking, &["viking"]),
    (Rule::Seed, &["seed-coder"]),
    (Rule::Bailing, &["bailingmoe", "bailingmoe2", "llada-moe"]),
    (Rule::Ufakzeka, &["ufakzeka"]),
    (Rule::Laguna, &["laguna"]),
];

/// Rule for cutting a text into words.
#[derive(Debug, Clone, Copy)]
enum Rule {
    Default,
    Gpt2,
    Digits,
    Llama3,
    Llama3Merges,
    Llama3WholeWords,
    MiniCpm5,
    Qwen2,
    Qwen2AsIs,
    Qwen35,
    O200k,
    Tekken,
    DeepSeek3,
    DeepSeekCoder,
    Falcon,
    Bloom,
    Viking,
    Seed,
    Bailing,
    Ufakzeka,
    Laguna,
}

/// Returns the rules for a value of `tokenizer.ggml.pre`.
pub(crate) fn named(name: &str) -> Result<PreTokenizer, Diagnostic> {
    if let Some((rule, _)) = RULES.iter().find(|(_, names)| names.contains(&name)) {
        Ok(rule.build())
    } else {
        let mut known: Vec<&str> = RULES
            .iter()
            .flat_map(|(_, names)| *names)
            .copied()
            .collect();
        known.sort_unstable();
        Err(errors::unsupported("pre-tokenizer", name, &known))
    }
}

impl Rule {
    fn build(self) -> PreTokenizer {
        let words = |digits: &str| CONTRACTIONS_THEN_WORDS.replace("DIGITS", digits);
        let nfc = || Some(json!({"type": "NFC"}));
        match self {
            Self::Gpt2 => PreTokenizer::of(vec![split(GPT2)]),
            // Rules for files written before GGUF had this key.
            Self::Default => PreTokenizer::of(vec![
                split(r"[\p{P}\$\+<=>\^~\|]+"),
                split(GPT2),
                split(r"\p{N}+"),
                split("[0-9][0-9][0-9]"),
            ]),
            Self::Digits => PreTokenizer::of(vec![
                json!({"type": "Digits", "individual_digits": true}),
                split(GPT2),
            ]),
            Self::Llama3 => PreTokenizer {
                ignore_merges: true,
                add_bos: true,
                ..PreTokenizer::of(vec![split(&words(r"\p{N}{1,3}"))])
            },
            Self::Llama3Merges => PreTokenizer::of(vec![split(&words(r"\p{N}{1,3}"))]),
            Self::Llama3WholeWords => PreTokenizer {
                ignore_merges: true,
                ..Self::Llama3Merges.build()
            },
            Self::MiniCpm5 => PreTokenizer {
                ignore_merges: true,
                ..PreTokenizer::of(vec![split(r"\p{N}{1,3}"), split(&words(r"\p{N}+"))])
            },
            Self::Qwen2 => PreTokenizer {
                normalizer: nfc(),
                ..Self::Qwen2AsIs.build()
            },
            Self::Qwen2AsIs => PreTokenizer::of(vec![split(&words(r"\p{N}"))]),
            Self::Qwen35 => PreTokenizer {
                normalizer: nfc(),
                ..PreTokenizer::of(vec![split(QWEN35)])
            },
            Self::O200k => PreTokenizer::of(vec![split(O200K)]),
            Self::Tekken => PreTokenizer {
                ignore_merges: true,
                add_bos: true,
                ..PreTokenizer::of(vec![split(TEKKEN)])
            },
            Self::DeepSeek3 => {
                PreTokenizer::of(vec![split(r"\p{N}{1,3}"), split(CJK), split(DEEPSEEK3)])
            }
            Self::DeepSeekCoder => PreTokenizer::of(vec![
                split(r"[\r\n]"),
                split(r"\s?\p{L}+"),
                split(r"\s?\p{P}+"),
                split(r"[一-龥ࠀ-一가-\x{d7ff}]+"),
                split(r"\p{N}"),
            ]),
            Self::Falcon => PreTokenizer::of(vec![
                split(r"[\p{P}\$\+<=>\^~\|`]+"),
                split(GPT2),
                split("[0-9][0-9][0-9]"),
            ]),
            Self::Bloom => PreTokenizer::of(vec![split(BLOOM)]),
            Self::Viking => PreTokenizer::of(vec![split(BLOOM), split(r"\p{N}")]),
            Self::Seed => PreTokenizer::of(vec![split(SEED)]),
            Self::Bailing => PreTokenizer::of(vec![split(BAILING)]),
            Self::Ufakzeka => PreTokenizer::of(vec![split(UFAKZEKA)]),
            Self::Laguna => PreTokenizer::of(vec![split(r"[^\n]+|[\n]+"), split(&words(r"\p{N}"))]),
        }
    }
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

#[cfg(test)]
mod tests {
    use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

    use super::*;

    #[test]
    fn every_rule_compiles_and_every_name_occurs_once() {
        let mut names: Vec<&str> = RULES
            .iter()
            .flat_map(|(_, names)| *names)
            .copied()
            .collect();
        for name in &names {
            let rules = named(name).unwrap();
            serde_json::from_value::<PreTokenizerWrapper>(rules.splits).unwrap();
            if let Some(normalizer) = rules.normalizer {
                serde_json::from_value::<NormalizerWrapper>(normalizer).unwrap();
            }
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = named("nope").unwrap_err();
        assert_eq!(error.message, "pre-tokenizer `nope` is not supported");
        assert!(error.hint.unwrap().contains("tekken, trillion"));
    }
}
