//! Which model families the built-in engine computes. The engine has a table of its own with their
//! properties, and tests that both have the same names.

/// File format of a model's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightFormat {
    /// One GGUF file.
    Gguf,
    /// A directory with `config.json` and safetensors files.
    Safetensors,
}

const GGUF: &[&str] = &[
    "llama", "qwen2", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3", "phi3",
];
const SAFETENSORS: &[&str] = &[
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi3",
];

/// Returns the architectures that the engine supports in files of a format, by the names that
/// these files use.
pub const fn supported_architectures(format: WeightFormat) -> &'static [&'static str] {
    match format {
        WeightFormat::Gguf => GGUF,
        WeightFormat::Safetensors => SAFETENSORS,
    }
}
