//! Which model families the engine computes. The engine has a table of its own with their
//! properties, and tests that both have the same names.

use diagnostics::{Code, Diagnostic, excerpt};

use crate::header::{ModelHeader, WeightFormat};

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

/// Checks that the engine supports the architecture of a model.
///
/// Errors: `UNSUPPORTED_MODEL` with the supported names as hint.
pub fn check_supported(header: &ModelHeader) -> Result<(), Diagnostic> {
    let names = supported_architectures(header.format);
    if !names.contains(&header.architecture.as_str()) {
        return Err(unsupported(format!(
            "architecture `{}`",
            excerpt(&header.architecture, 40)
        ))
        .hint(format!("supported architectures: {}", names.join(", "))));
    }
    if !header.causal {
        return Err(unsupported("bidirectional attention".to_owned()));
    }
    Ok(())
}

fn unsupported(what: String) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedModel,
        format!("the engine does not support {what}"),
    )
    .hint("use a text model of the Llama, Mistral, Mixtral, Qwen, Gemma or Phi family")
}
