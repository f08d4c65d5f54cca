use diagnostics::Diagnostic;
use input_validation::ModelRef;
use worker_contract::EngineKind;

use crate::errors;

/// Path that responds with 200 when the engine is ready.
pub(crate) const fn health_path(kind: EngineKind) -> &'static str {
    match kind {
        EngineKind::LlamaCpp | EngineKind::Vllm => "/health",
        EngineKind::Ollama => "/api/version",
        EngineKind::Openai => "/v1/models",
    }
}

/// Derives the reference that clients use from the value of `--model`: a reference, the path of a
/// file, or the engine's own name for a model.
pub fn model_ref(kind: EngineKind, model: &str) -> Result<ModelRef, Diagnostic> {
    if let Ok(reference) = model.parse() {
        return Ok(reference);
    }
    if let Ok(path) = std::fs::canonicalize(model) {
        return format!("file:{}", path.display()).parse();
    }
    let vendor = match kind {
        EngineKind::Ollama => "ollama",
        EngineKind::LlamaCpp | EngineKind::Vllm | EngineKind::Openai => "hf",
    };
    format!("{vendor}:{model}")
        .parse()
        .map_err(|_| errors::no_alias(model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_engines_become_references() {
        let reference = |kind, model: &str| model_ref(kind, model).map(|r| r.to_string());
        assert_eq!(
            reference(EngineKind::Ollama, "llama3.2:3b").unwrap(),
            "ollama:llama3.2:3b"
        );
        assert_eq!(
            reference(EngineKind::Vllm, "Qwen/Qwen3-8B").unwrap(),
            "hf:Qwen/Qwen3-8B"
        );
        assert_eq!(reference(EngineKind::Openai, "mock:a").unwrap(), "mock:a");
        assert!(
            reference(EngineKind::LlamaCpp, "Cargo.toml")
                .unwrap()
                .starts_with("file:/")
        );
        let error = reference(EngineKind::Openai, "no such model").unwrap_err();
        assert!(error.hint.unwrap().contains("--alias"));
    }
}
