use std::{collections::BTreeSet, fmt};

use input_validation::{Backend, WorkerType};
use serde::{Deserialize, Serialize};

/// File format of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// GGUF file.
    Gguf,
    /// Directory with safetensors.
    Safetensors,
}

/// What an engine can do besides generating text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Computes embeddings.
    Embeddings,
    /// Scores documents for a query.
    Rerank,
    /// Sees images.
    Vision,
    /// Calls tools.
    Tools,
    /// Separates reasoning from answers.
    Reasoning,
    /// Generates text that satisfies a schema or a grammar.
    Constraints,
    /// Returns probabilities of tokens.
    Logprobs,
}

/// Names that an engine supports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Support {
    /// All names that anybody may use: the engine itself refuses some of them when it loads.
    Any,
    /// These names.
    Only(BTreeSet<String>),
}

impl Support {
    /// These names.
    pub fn only<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Only(names.into_iter().map(str::to_owned).collect())
    }

    /// Whether the name is supported; names differ by more than their case.
    pub fn includes(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(names) => names.iter().any(|own| own.eq_ignore_ascii_case(name)),
        }
    }
}

/// Whether an engine can be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// It is part of rbee.
    BuiltIn,
    /// It is installed on the machine.
    Installed,
    /// It runs already, with a model of its own: it is used only if the user names it.
    Attached,
    /// It is installed from a package when the user agrees.
    Package {
        /// Id of the package.
        id: String,
        /// Whether the user has agreed to it.
        agreed: bool,
    },
}

/// What an engine can run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declaration {
    /// Name by which users choose it: `builtin`, `llama-cpp`.
    pub name: String,
    /// Type of worker that runs it.
    pub worker_type: WorkerType,
    /// Whether it can be started.
    pub availability: Availability,
    /// File formats.
    pub formats: BTreeSet<Format>,
    /// Architectures of models.
    pub architectures: Support,
    /// Types of tensors.
    pub tensor_types: Support,
    /// Backends that it computes on.
    pub backends: Vec<Backend>,
    /// What it can do besides generating text.
    pub features: BTreeSet<Feature>,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gguf => "GGUF",
            Self::Safetensors => "safetensors",
        })
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embeddings => "embeddings",
            Self::Rerank => "reranking",
            Self::Vision => "images",
            Self::Tools => "tools",
            Self::Reasoning => "reasoning",
            Self::Constraints => "constraints",
            Self::Logprobs => "probabilities of tokens",
        })
    }
}
