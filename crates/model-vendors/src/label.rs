//! Types of weights as the names of GGUF files state them: `model-Q4_K_M.gguf`.

/// Types in the order in which they are preferred, where a user names none.
pub(crate) const PREFERRED: [&str; 6] = ["Q4_K_M", "Q5_K_M", "Q4_0", "Q5_0", "Q8_0", "F16"];
/// Prefix of the names of mixed types of one publisher.
const MIXED: &str = "UD-";

/// Returns the type of the weights that the path of a file states, in upper case.
pub(crate) fn of_path(path: &str) -> Option<String> {
    let upper = path.to_ascii_uppercase();
    let name = upper.strip_suffix(".GGUF").unwrap_or(&upper);
    let words: Vec<&str> = name.split(['/', '-', '.', ' ']).collect();
    let found = words.iter().enumerate().rev().find_map(|(at, word)| {
        let is_mixed = at > 0 && words[at - 1] == "UD";
        Some((is_mixed, last_type(word)?))
    });
    let (is_mixed, name) = found?;
    Some(if is_mixed {
        format!("{MIXED}{name}")
    } else {
        name
    })
}

/// Returns the type at the end of a word: `Q4_K_M` of `PHI_Q4_K_M`.
fn last_type(word: &str) -> Option<String> {
    let starts = std::iter::once(0).chain(word.match_indices('_').map(|(at, _)| at + 1));
    starts.map(|at| &word[at..]).find_map(|text| match text {
        "F16" | "FP16" => Some("F16".to_owned()),
        "F32" | "FP32" => Some("F32".to_owned()),
        "BF16" | "MXFP4" | "MXFP4_MOE" => Some(text.to_owned()),
        _ => is_quantization(text).then(|| text.to_owned()),
    })
}

/// Whether a text has the form of `Q8_0`, `Q4_K_M`, `IQ2_XXS` or `TQ1_0`.
fn is_quantization(text: &str) -> bool {
    let rest = text.trim_start_matches(['I', 'T']);
    let Some((bits, kind)) = rest.strip_prefix('Q').and_then(|rest| rest.split_once('_')) else {
        return false;
    };
    let is_kind = |part: &str| {
        (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    bits.len() == 1 && bits.bytes().all(|b| b.is_ascii_digit()) && kind.split('_').all(is_kind)
}

/// Normalizes the type that a user names: `q4_k_m` is `Q4_K_M`, and `fp16` is `F16`.
pub(crate) fn normalized(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    of_path(&upper)
        .filter(|label| label.len() + 2 >= upper.len())
        .unwrap_or(upper)
}

/// Whether the engine computes with weights of a type, by the name only: a file may contain
/// other types in addition.
pub(crate) fn is_runnable(label: &str) -> bool {
    let name = label.strip_prefix(MIXED).unwrap_or(label);
    let exact = [
        "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q8_K_XL",
    ];
    let families = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"];
    let is_of = |family: &str| {
        let rest = name.strip_prefix(family);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    exact.contains(&name) || families.into_iter().any(is_of)
}

/// Whether a type mixes several, of which some may not be supported.
pub(crate) fn is_mixed(label: &str) -> bool {
    label.starts_with(MIXED)
}

/// Whether a path contains a word, in any case, that no letter, digit or `_` continues.
pub(crate) fn has_word(path: &str, word: &str) -> bool {
    let (path, word) = (path.to_ascii_uppercase(), word.to_ascii_uppercase());
    let continues = |c: char| c.is_alphanumeric() || c == '_';
    path.match_indices(&word).any(|(at, _)| {
        let before = path[..at].chars().next_back();
        let after = path[at + word.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(continues)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_state_the_type() {
        for (path, label) in [
            ("SmolLM2-135M-Instruct-Q4_K_M.gguf", Some("Q4_K_M")),
            ("qwen2.5-7b-instruct-q4_k_m.gguf", Some("Q4_K_M")),
            ("tinyllama-1.1b-chat-v1.0.Q2_K.gguf", Some("Q2_K")),
            ("phi-2_Q5_K_S.gguf", Some("Q5_K_S")),
            ("model-fp16.gguf", Some("F16")),
            ("Qwen3-4B-BF16.gguf", Some("BF16")),
            ("Qwen3-4B-UD-Q4_K_XL.gguf", Some("UD-Q4_K_XL")),
            ("Qwen3-4B-UD-IQ1_S.gguf", Some("UD-IQ1_S")),
            ("gemma-Q4_0_4_4.gguf", Some("Q4_0_4_4")),
            ("gpt-oss-20b-MXFP4.gguf", Some("MXFP4")),
            ("Q8_0/model.gguf", Some("Q8_0")),
            ("a-Q4_0-to-Q8_0.gguf", Some("Q8_0")),
            ("ggml-model.gguf", None),
            ("Q-Star_7B.gguf", None),
            ("QwQ-32B.gguf", None),
        ] {
            assert_eq!(of_path(path).as_deref(), label, "{path}");
        }
    }

    #[test]
    fn types_of_users_are_normalized() {
        for (text, label) in [
            ("q4_k_m", "Q4_K_M"),
            ("fp16", "F16"),
            ("ud-q4_k_xl", "UD-Q4_K_XL"),
            ("instruct-q4_0", "INSTRUCT-Q4_0"),
        ] {
            assert_eq!(normalized(text), label);
        }
    }

    #[test]
    fn every_type_that_the_engine_computes_is_runnable_and_no_other() {
        for kind in model_format::TensorType::ALL {
            assert!(is_runnable(kind.name()), "{}", kind.name());
        }
        for label in PREFERRED.iter().chain(&["Q3_K_L", "Q6_K", "UD-Q4_K_XL"]) {
            assert!(is_runnable(label), "{label}");
        }
        for label in [
            "IQ4_XS", "UD-IQ1_S", "TQ1_0", "MXFP4", "Q4_0_4_4", "Q4", "Q8_1", "Q44_K",
        ] {
            assert!(!is_runnable(label), "{label}");
        }
    }

    #[test]
    fn words_are_matched_whole() {
        for (path, word, is_in) in [
            ("m-Q4_K_M.gguf", "q4_k_m", true),
            ("m_Q4_K_M.gguf", "Q4_K_M", true),
            ("m-Q4_K_M.gguf", "Q4_K", false),
            ("m-IQ4_NL.gguf", "Q4_NL", false),
            ("m-Q4_0_4_4.gguf", "Q4_0", false),
            ("m-UD-Q4_K_XL.gguf", "Q4_K_XL", true),
            ("m-135m-x.gguf", "135M", true),
        ] {
            assert_eq!(has_word(path, word), is_in, "{path} {word}");
        }
    }
}
