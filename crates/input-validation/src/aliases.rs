/// Short names that ship with rbee, as users of Ollama type them, and the files that they stand
/// for: instruction-tuned models whose GGUF files the engine runs.
const SHIPPED: &[(&str, &str)] = &[
    (
        "deepseek-r1:1.5b",
        "hf:bartowski/DeepSeek-R1-Distill-Qwen-1.5B-GGUF:Q4_K_M",
    ),
    (
        "deepseek-r1:7b",
        "hf:bartowski/DeepSeek-R1-Distill-Qwen-7B-GGUF:Q4_K_M",
    ),
    (
        "deepseek-r1:8b",
        "hf:bartowski/DeepSeek-R1-Distill-Llama-8B-GGUF:Q4_K_M",
    ),
    ("gemma2", "hf:bartowski/gemma-2-9b-it-GGUF:Q4_K_M"),
    ("gemma2:2b", "hf:bartowski/gemma-2-2b-it-GGUF:Q4_K_M"),
    ("gemma2:9b", "hf:bartowski/gemma-2-9b-it-GGUF:Q4_K_M"),
    ("gemma3", "hf:unsloth/gemma-3-4b-it-GGUF:Q4_K_M"),
    ("gemma3:1b", "hf:unsloth/gemma-3-1b-it-GGUF:Q4_K_M"),
    ("gemma3:4b", "hf:unsloth/gemma-3-4b-it-GGUF:Q4_K_M"),
    ("gemma3:12b", "hf:unsloth/gemma-3-12b-it-GGUF:Q4_K_M"),
    (
        "llama3.1",
        "hf:bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M",
    ),
    (
        "llama3.1:8b",
        "hf:bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M",
    ),
    ("llama3.2", "hf:bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M"),
    (
        "llama3.2:1b",
        "hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
    ),
    (
        "llama3.2:3b",
        "hf:bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M",
    ),
    (
        "mistral",
        "hf:bartowski/Mistral-7B-Instruct-v0.3-GGUF:Q4_K_M",
    ),
    (
        "mistral:7b",
        "hf:bartowski/Mistral-7B-Instruct-v0.3-GGUF:Q4_K_M",
    ),
    (
        "mistral-nemo",
        "hf:bartowski/Mistral-Nemo-Instruct-2407-GGUF:Q4_K_M",
    ),
    ("phi3.5", "hf:bartowski/Phi-3.5-mini-instruct-GGUF:Q4_K_M"),
    ("phi4", "hf:bartowski/phi-4-GGUF:Q4_K_M"),
    ("phi4:14b", "hf:bartowski/phi-4-GGUF:Q4_K_M"),
    ("phi4-mini", "hf:unsloth/Phi-4-mini-instruct-GGUF:Q4_K_M"),
    (
        "phi4-mini:3.8b",
        "hf:unsloth/Phi-4-mini-instruct-GGUF:Q4_K_M",
    ),
    ("qwen2.5", "hf:bartowski/Qwen2.5-7B-Instruct-GGUF:Q4_K_M"),
    (
        "qwen2.5:0.5b",
        "hf:bartowski/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M",
    ),
    (
        "qwen2.5:1.5b",
        "hf:bartowski/Qwen2.5-1.5B-Instruct-GGUF:Q4_K_M",
    ),
    ("qwen2.5:7b", "hf:bartowski/Qwen2.5-7B-Instruct-GGUF:Q4_K_M"),
    (
        "qwen2.5-coder",
        "hf:bartowski/Qwen2.5-Coder-7B-Instruct-GGUF:Q4_K_M",
    ),
    (
        "qwen2.5-coder:7b",
        "hf:bartowski/Qwen2.5-Coder-7B-Instruct-GGUF:Q4_K_M",
    ),
    ("qwen3", "hf:Qwen/Qwen3-8B-GGUF:Q4_K_M"),
    ("qwen3:0.6b", "hf:unsloth/Qwen3-0.6B-GGUF:Q4_K_M"),
    ("qwen3:1.7b", "hf:unsloth/Qwen3-1.7B-GGUF:Q4_K_M"),
    ("qwen3:4b", "hf:Qwen/Qwen3-4B-GGUF:Q4_K_M"),
    ("qwen3:8b", "hf:Qwen/Qwen3-8B-GGUF:Q4_K_M"),
    ("qwen3:14b", "hf:Qwen/Qwen3-14B-GGUF:Q4_K_M"),
    ("qwen3:30b", "hf:unsloth/Qwen3-30B-A3B-GGUF:Q4_K_M"),
    ("smollm2", "hf:bartowski/SmolLM2-1.7B-Instruct-GGUF:Q4_K_M"),
    (
        "smollm2:135m",
        "hf:bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M",
    ),
    (
        "smollm2:360m",
        "hf:bartowski/SmolLM2-360M-Instruct-GGUF:Q4_K_M",
    ),
    (
        "smollm2:1.7b",
        "hf:bartowski/SmolLM2-1.7B-Instruct-GGUF:Q4_K_M",
    ),
    (
        "tinyllama",
        "hf:TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF:Q4_K_M",
    ),
];

/// Returns the short names that ship with rbee, each with the reference of its model.
pub const fn shipped_aliases() -> &'static [(&'static str, &'static str)] {
    SHIPPED
}

/// Returns the reference of the model that ships under a short name, with or without the tag
/// `latest`. Case does not matter.
pub(crate) fn shipped(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix(":latest").unwrap_or(name);
    let found = SHIPPED
        .iter()
        .find(|(alias, _)| alias.eq_ignore_ascii_case(name));
    found.map(|(_, reference)| *reference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelRef;

    #[test]
    fn every_shipped_name_denotes_a_type_of_weights_in_a_repository() {
        for (name, reference) in shipped_aliases() {
            let model: ModelRef = reference.parse().unwrap();
            assert_eq!(ModelRef::from_name(name).unwrap(), model);
            let ModelRef::Hub {
                revision: None,
                selection: Some(selection),
                ..
            } = model
            else {
                panic!("{name}: {model}");
            };
            assert_eq!(selection, "Q4_K_M", "{name}");
        }
    }

    #[test]
    fn names_are_found_with_and_without_the_default_tag() {
        let small = "hf:bartowski/SmolLM2-1.7B-Instruct-GGUF:Q4_K_M";
        for name in ["smollm2", "smollm2:latest", "SmolLM2", "smollm2:1.7b"] {
            assert_eq!(shipped(name), Some(small), "{name}");
        }
        for name in ["haiku", "smollm2:999b", "smollm", ""] {
            assert_eq!(shipped(name), None, "{name}");
        }
    }
}
