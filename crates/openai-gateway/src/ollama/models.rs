use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

/// What is known of a model; zero and empty where it is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `gguf` or `safetensors`.
    pub format: String,
    /// Family: `llama`.
    pub architecture: String,
    /// Weight type: `F16`.
    pub quantization: String,
    /// On disk.
    pub size_bytes: u64,
    /// Weights, counted.
    pub parameters: u64,
    /// Longest prompt plus answer, in tokens.
    pub context_length: u32,
}

/// A model's kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OllamaDetails {
    /// Always empty.
    pub parent_model: String,
    /// `gguf` or `safetensors`.
    pub format: String,
    /// Family: `llama`.
    pub family: String,
    /// The same.
    pub families: Vec<String>,
    /// Weights, counted: `1.2B`.
    pub parameter_size: String,
    /// Weight type: `F16`.
    pub quantization_level: String,
}

impl From<&Facts> for OllamaDetails {
    fn from(facts: &Facts) -> Self {
        Self {
            parent_model: String::new(),
            format: facts.format.clone(),
            family: facts.architecture.clone(),
            families: vec![facts.architecture.clone()],
            parameter_size: counted(facts.parameters),
            quantization_level: facts.quantization.clone(),
        }
    }
}

/// A count in the unit that people say it in.
fn counted(parameters: u64) -> String {
    let parameters = parameters as f64;
    for (unit, name) in [(1e9, "B"), (1e6, "M"), (1e3, "K")] {
        if parameters >= unit {
            return format!("{:.1}{name}", parameters / unit);
        }
    }
    format!("{parameters:.0}")
}

/// A model that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OllamaModel {
    /// What requests name.
    pub name: String,
    /// The same.
    pub model: String,
    /// When this queen first knew it.
    #[schema(value_type = String, format = DateTime)]
    pub modified_at: Timestamp,
    /// On disk, in bytes.
    pub size: u64,
    /// Names this entry: SHA-256 of its name and what is known of it, not of its file.
    pub digest: String,
    /// Its kind.
    pub details: OllamaDetails,
}

impl OllamaModel {
    /// The model of this name.
    pub fn new(name: String, facts: &Facts, modified_at: Timestamp) -> Self {
        Self {
            digest: digest(&name, facts),
            model: name.clone(),
            name,
            modified_at,
            size: facts.size_bytes,
            details: facts.into(),
        }
    }
}

fn digest(name: &str, facts: &Facts) -> String {
    let hash = Sha256::digest(format!("{name}\n{facts:?}"));
    hash.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Answer of `GET /api/tags`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OllamaModels {
    /// By name.
    pub models: Vec<OllamaModel>,
}

/// A model that a worker serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OllamaRunning {
    /// The model.
    #[serde(flatten)]
    pub model: OllamaModel,
    /// Memory on a GPU, in bytes.
    pub size_vram: u64,
    /// Longest prompt plus answer, in tokens.
    pub context_length: u32,
    /// When it is unloaded: never by itself.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// Answer of `GET /api/ps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OllamaProcesses {
    /// One for each worker.
    pub models: Vec<OllamaRunning>,
}

/// Answer of `POST /api/show`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OllamaShown {
    /// When this queen first knew it.
    #[schema(value_type = String, format = DateTime)]
    pub modified_at: Timestamp,
    /// Its kind.
    pub details: OllamaDetails,
    /// Its figures, named as in a GGUF file.
    #[schema(value_type = std::collections::HashMap<String, Value>)]
    pub model_info: Map<String, Value>,
    /// `completion`, `embedding`, `tools`.
    pub capabilities: Vec<String>,
}

impl OllamaShown {
    /// What there is to show of a model.
    pub fn new(facts: &Facts, capabilities: Vec<String>, modified_at: Timestamp) -> Self {
        let mut model_info = Map::new();
        if !facts.architecture.is_empty() {
            let context = format!("{}.context_length", facts.architecture);
            model_info.insert(
                "general.architecture".into(),
                json!(facts.architecture.clone()),
            );
            model_info.insert("general.parameter_count".into(), json!(facts.parameters));
            model_info.insert(context, json!(facts.context_length));
        }
        Self {
            modified_at,
            details: facts.into(),
            model_info,
            capabilities,
        }
    }
}

/// The listed model that an Ollama client means. Beside the listed names there are short
/// ones, `name:tag`: `haiku` or `haiku:latest` for `builtin:haiku`, `haiku:q8_0` for
/// `builtin:haiku@q8_0`.
pub fn resolve<'a>(name: &str, listed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (short, tag) = name.split_once(':').unwrap_or((name, "latest"));
    listed.into_iter().find(|model| {
        let builtin = model.strip_prefix("builtin:");
        *model == name
            || builtin.is_some_and(|builtin| {
                builtin.split_once('@').unwrap_or((builtin, "latest")) == (short, tag)
            })
    })
}
