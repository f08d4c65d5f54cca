use diagnostics::Diagnostic;
use serde_json::{Value, json};

use crate::errors;

/// Rules for applying a vocabulary with merges of a GGUF file.
#[derive(Debug)]
pub(crate) struct PreTokenizer {
    /// Pre-tokenizer as in `tokenizer.json`.
    pub(crate) splits: Value,
    /// Normalizer as in `tokenizer.json`.
    pub(crate) normalizer: Option<Value>,
    /// Whether the tokens spell bytes, as those of GPT-2; otherwise, they are text, with tokens
    /// for single bytes.
    pub(crate) is_byte_level: bool,
    /// Whether a split that is itself a token bypasses the merges.
    pub(crate) ignore_merges: bool,
    /// Whether a prompt starts with the begin-of-sequence token by default.
    pub(crate) add_bos: bool,
}

const LINES: &str = r"[^\n]+|[\n]+";
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
/// Letters of DeepSeek LLM's vocabulary.
const DEEPSEEK_LETTERS: &str = r"A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1f7d}ᾀ-ᾴᾶ-ᾼ\x{1fbe}ῂ-ῄῆ-ῌῐ-\x{1fd3}ῖ-\x{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃";
/// Last pattern of Spark 2.5: as [`DEEPSEEK3`], with each line break on its own.
const SPARK: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"##;
/// Pattern of Kimi K2: as [`O200K`], and Chinese characters are words of their own.
const KIMI: &str = r"\p{Han}+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Pattern of EXAONE MoE: words include the spaces between letters that carry marks.
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
/// Spaces of Jais 2, in runs whose lengths are powers of two.
const JAIS2_SPACES: &str = r"\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}";
/// Scripts of East and South-East Asia, of AFMoE.
const ASIAN: &str = r"[\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}\x{f900}-\x{faff}\x{3040}-\x{309f}\x{30a0}-\x{30ff}\x{ff65}-\x{ff9f}\x{2f00}-\x{2fdf}\x{e00}-\x{e7f}\x{e80}-\x{eff}\x{1780}-\x{17ff}\x{1000}-\x{109f}\x{aa60}-\x{aa7f}\x{a9e0}-\x{a9ff}\x{ac00}-\x{d7af}\x{1100}-\x{11ff}]+";
/// Korean, punctuation of Chinese, Bopomofo, and Chinese and Japanese: Youtu.
const YOUTU: &str = r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\x{3040}-ゟ゠-ヿ]+";
/// Digits in groups of three from the right.
const GROUPED_DIGITS: &str = r"\p{Nd}{1,3}(?=(?:\p{Nd}{3})*(?!\p{Nd}))";
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
    (Rule::DeepSeekLlm, &["deepseek-llm"]),
    (Rule::Kimi, &["kimi-k2"]),
    (Rule::ExaoneMoe, &["exaone-moe"]),
    (Rule::Jais2, &["jais-2"]),
    (Rule::Afmoe, &["afmoe"]),
    (Rule::Spark, &["spark2_5"]),
    (Rule::Youtu, &["youtu"]),
    (Rule::TinyAya, &["tiny_aya", "cohere2moe"]),
    (Rule::SuperBpe, &["superbpe"]),
    (Rule::Chameleon, &["chameleon"]),
    (
        Rule::Lines,
        &["gemma4", "granite-embed-multi-311m", "sarvam-moe"],
    ),
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
    DeepSeekLlm,
    Kimi,
    ExaoneMoe,
    Jais2,
    Afmoe,
    Spark,
    Youtu,
    TinyAya,
    SuperBpe,
    Chameleon,
    Lines,
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
            Self::Laguna => PreTokenizer::of(vec![split(LINES), split(&words(r"\p{N}"))]),
            Self::DeepSeekLlm => PreTokenizer::of(vec![
                split(r"[\r\n]"),
                split(&format!(r"\s?[{DEEPSEEK_LETTERS}]+")),
                split(r"\s?[!-/:-~！-／：-～‘-‟\x{3000}-。]+"),
                split(r"\s+$"),
                split(r"[一-龥ࠀ-一가-\x{d7ff}]+"),
                split(r"\p{N}+"),
            ]),
            Self::Kimi => PreTokenizer::of(vec![split(KIMI)]),
            Self::ExaoneMoe => PreTokenizer::of(vec![split(EXAONE_MOE)]),
            Self::Jais2 => PreTokenizer::of(vec![split(
                &words(r"\p{N}{1,3}").replace(r"\s+(?!\S)|\s+", JAIS2_SPACES),
            )]),
            Self::Afmoe => {
                PreTokenizer::of(vec![split(GROUPED_DIGITS), split(ASIAN), split(DEEPSEEK3)])
            }
            Self::Spark => PreTokenizer::of(vec![
                split(r"\p{N}{1,3}"),
                split(CJK),
                split(SPARK),
                split(r"\p{N}"),
            ]),
            Self::Youtu => PreTokenizer {
                ignore_merges: true,
                ..PreTokenizer::of(vec![
                    split(YOUTU),
                    split(&O200K.replace(r"\p{N}{1,3}", r"\p{N}")),
                ])
            },
            Self::TinyAya => PreTokenizer::of(vec![split(GROUPED_DIGITS), split(O200K)]),
            Self::SuperBpe => {
                PreTokenizer::of(vec![split(r"\p{N}+"), split(r"(?=(\d{3})+(?!\d))")])
            }
            Self::Chameleon => PreTokenizer {
                add_bos: true,
                ..PreTokenizer::of(vec![
                    split("<sentinel:[0-9]+>"),
                    split("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"),
                    split(r"([\t\n]|    |  )"),
                    split(r"\p{N}"),
                    split(r"[\p{P}!-/:-@\[-`{-~]"),
                    split(GPT2.trim_end_matches(r"|\s+")),
                ])
            },
            Self::Lines => PreTokenizer {
                splits: split(LINES),
                normalizer: Some(spaces_as_marks()),
                is_byte_level: false,
                ..PreTokenizer::of(Vec::new())
            },
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
            is_byte_level: true,
            ignore_merges: false,
            add_bos: false,
        }
    }
}

/// Returns the normalizer that writes spaces as SentencePiece does.
pub(crate) fn spaces_as_marks() -> Value {
    json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
}

fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

#[cfg(test)]
mod tests {
    use tokenizers::{
        NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _,
        PreTokenizerWrapper,
    };

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

    /// Cuts a text into words as a rule says, without their spelling as bytes.
    fn words(name: &str, text: &str) -> Vec<String> {
        let mut splits = named(name).unwrap().splits;
        if let Some(steps) = splits["pretokenizers"].as_array_mut() {
            steps.pop();
        }
        let splits: PreTokenizerWrapper = serde_json::from_value(splits).unwrap();
        let mut text = PreTokenizedString::from(text);
        splits.pre_tokenize(&mut text).unwrap();
        let words = text.get_splits(OffsetReferential::Original, OffsetType::Char);
        words
            .into_iter()
            .map(|(word, _, _)| word.to_owned())
            .collect()
    }

    #[test]
    fn rules_cut_texts_into_words() {
        for (name, text, expected) in [
            (
                "deepseek-llm",
                "it's Ä 一二",
                &["it", "'", "s", " Ä", " ", "一二"][..],
            ),
            ("kimi-k2", "abc一二def", &["abc", "一二", "def"]),
            ("kimi-k2", "12345/\n", &["123", "45", "/\n"]),
            ("exaone-moe", "I'm a b", &["I", "'m", " a b"]),
            ("jais-2", "a       b", &["a", "    ", "  ", " b"]),
            ("afmoe", "x1234567", &["x", "1", "234", "567"]),
            ("afmoe", "ab一二", &["ab", "一二"]),
            ("tiny_aya", "1234", &["1", "234"]),
            ("superbpe", "a1234567", &["a", "1", "234", "567"]),
            ("spark2_5", "a\n\n", &["a", "\n", "\n"]),
            ("youtu", "한글12", &["한글", "1", "2"]),
            ("chameleon", "a.b  ", &["a", ".", "b", "  "]),
            ("gemma4", "a b\n\nc", &["a b", "\n\n", "c"]),
        ] {
            assert_eq!(words(name, text), expected, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = named("nope").unwrap_err();
        assert_eq!(error.message, "pre-tokenizer `nope` is not supported");
        assert!(error.hint.unwrap().contains("tekken, tiny_aya, trillion"));
    }
}
