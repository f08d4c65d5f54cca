//! Which model families the engine computes. The engine has a table of its own with their
//! properties, and tests that both have the same names.

use diagnostics::{Code, Diagnostic, excerpt};

use crate::{
    config::family_of_config,
    errors,
    header::{ModelHeader, WeightFormat},
};

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

/// Checks that the engine supports an architecture by its name in files of a format. Keys of the
/// header differ between architectures, so that this is checked before the header is read.
///
/// Errors: `UNSUPPORTED_MODEL` with the supported names as hint.
pub fn check_architecture(name: &str, format: WeightFormat) -> Result<(), Diagnostic> {
    let names = supported_architectures(format);
    if names.contains(&name) {
        return Ok(());
    }
    let error = unsupported(&format!("architecture `{}`", excerpt(name, 40)));
    Err(error.hint(format!("supported architectures: {}", names.join(", "))))
}

/// Checks that the engine supports the architecture of a `config.json`.
///
/// Errors: `UNSUPPORTED_MODEL`, `INVALID_MODEL_FILE`.
pub fn check_config(json: &[u8]) -> Result<(), Diagnostic> {
    match family_of_config(json) {
        Some(name) => check_architecture(&name, WeightFormat::Safetensors),
        None => Err(errors::no_model_type()),
    }
}

/// Checks that the engine supports the architecture of a model.
///
/// Errors: `UNSUPPORTED_MODEL`.
pub fn check_supported(header: &ModelHeader) -> Result<(), Diagnostic> {
    check_architecture(&header.architecture, header.format)?;
    if header.causal {
        Ok(())
    } else {
        Err(unsupported("bidirectional attention"))
    }
}

fn unsupported(what: &str) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedModel,
        format!("the engine does not support {what}"),
    )
    .hint("use a text model of the Llama, Mistral, Mixtral, Qwen, Gemma or Phi family")
}
