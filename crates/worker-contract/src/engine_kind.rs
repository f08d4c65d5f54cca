use std::{fmt, str::FromStr};

use diagnostics::{Code, Diagnostic};
use serde::Deserialize;

/// Protocol of an engine that a worker starts or attaches to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// The server of llama.cpp.
    LlamaCpp,
    /// vLLM.
    Vllm,
    /// Ollama.
    Ollama,
    /// Any server with the API of OpenAI.
    Openai,
}

impl EngineKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::LlamaCpp, Self::Vllm, Self::Ollama, Self::Openai];

    /// Returns the name that users write.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LlamaCpp => "llama-cpp",
            Self::Vllm => "vllm",
            Self::Ollama => "ollama",
            Self::Openai => "openai",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EngineKind {
    type Err = Diagnostic;

    fn from_str(name: &str) -> Result<Self, Diagnostic> {
        let kind = Self::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| {
            let name = diagnostics::excerpt(name, 60);
            let message = format!("\"{name}\" is no kind of engine");
            let names = Self::ALL.map(Self::name).join("`, `");
            Diagnostic::new(Code::ConfigInvalid, message).hint(format!("use one of `{names}`"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_one_name_for_users_and_files() {
        for kind in EngineKind::ALL {
            assert_eq!(kind.to_string().parse::<EngineKind>().unwrap(), kind);
            let read: EngineKind = serde_json::from_value(kind.name().into()).unwrap();
            assert_eq!(read, kind);
        }
        let error = "llamacpp\u{1b}".parse::<EngineKind>().unwrap_err();
        assert!(!error.message.contains('\u{1b}'));
        assert!(error.hint.unwrap().contains("`llama-cpp`"));
    }
}
