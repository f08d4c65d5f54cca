use std::fmt::Write as _;

use diagnostics::Diagnostic;
use jiff::Timestamp;
use openapi_schema::{
    SchemaRef, any_of, impl_schema, nullable, object, optional, required, string, text,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;
use worker_contract::{ALL_TOKENS, SamplingValues};

use crate::{errors::missing, schemas::UNLIMITED};

/// Known properties of a model; unknown ones are zero or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// `gguf` or `safetensors`.
    pub format: String,
    /// Architecture, such as `llama`.
    pub architecture: String,
    /// Type of the weights, such as `F16`.
    pub quantization: String,
    /// Size of the files, in bytes.
    pub size_bytes: u64,
    /// Number of weights.
    pub parameters: u64,
    /// Maximum length of prompt and output together, in tokens.
    pub context_length: u32,
}

/// Properties of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OllamaModelDetails {
    /// Always empty.
    #[schema(max_length = 0)]
    pub parent_model: String,
    /// `gguf`, `safetensors`, or empty if unknown.
    #[schema(pattern = "^(gguf|safetensors|)$")]
    pub format: String,
    /// Architecture, such as `llama`; empty if unknown.
    pub family: String,
    /// Array of `family` alone; empty if it is unknown.
    pub families: Vec<String>,
    /// Number of weights with its unit, such as `1.2B`.
    pub parameter_size: String,
    /// Type of the weights, such as `F16`; empty if unknown.
    pub quantization_level: String,
}

impl From<&ModelFacts> for OllamaModelDetails {
    fn from(facts: &ModelFacts) -> Self {
        Self {
            parent_model: String::new(),
            format: facts.format.clone(),
            family: facts.architecture.clone(),
            families: Some(facts.architecture.clone())
                .filter(|family| !family.is_empty())
                .into_iter()
                .collect(),
            parameter_size: parameter_size(facts.parameters),
            quantization_level: facts.quantization.clone(),
        }
    }
}

fn parameter_size(parameters: u64) -> String {
    let parameters = parameters as f64;
    for (unit, name) in [(1e9, "B"), (1e6, "M"), (1e3, "K")] {
        if parameters >= unit {
            return format!("{:.1}{name}", parameters / unit);
        }
    }
    format!("{parameters:.0}")
}

/// Model that requests can name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OllamaModel {
    /// Value for `model` in requests.
    pub name: String,
    /// Same as `name`.
    pub model: String,
    /// Time at which the model was fetched, or else the queen started.
    #[schema(value_type = String, format = DateTime)]
    pub modified_at: Timestamp,
    /// Size in bytes: of the files, or of the memory of a running model.
    pub size: u64,
    /// SHA-256 of the file of weights, in hexadecimal. For a model that was not fetched, of the
    /// name and the known properties.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub digest: String,
    pub details: OllamaModelDetails,
}

impl OllamaModel {
    pub fn new(name: String, facts: &ModelFacts, modified_at: Timestamp) -> Self {
        Self {
            digest: digest(&name, facts),
            model: name.clone(),
            name,
            modified_at,
            size: facts.size_bytes,
            details: facts.into(),
        }
    }

    /// The model with the name that Ollama's clients know: that of a model of its registry has no
    /// source.
    #[must_use]
    pub fn with_name_of_ollama(self) -> Self {
        let name = self.name.strip_prefix("ollama:").unwrap_or(&self.name);
        Self {
            model: name.to_owned(),
            name: name.to_owned(),
            ..self
        }
    }
}

fn digest(name: &str, facts: &ModelFacts) -> String {
    let ModelFacts {
        format,
        architecture,
        quantization,
        size_bytes,
        parameters,
        context_length,
    } = facts;
    // The text is fixed: clients take another digest for another model.
    let hash = Sha256::digest(format!(
        "{name}\nFacts {{ format: {format:?}, architecture: {architecture:?}, \
         quantization: {quantization:?}, size_bytes: {size_bytes}, parameters: {parameters}, \
         context_length: {context_length} }}"
    ));
    hash.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Response of `GET /api/tags`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OllamaModelList {
    /// Models in order of their names.
    pub models: Vec<OllamaModel>,
}

/// Model that a worker serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OllamaRunningModel {
    /// The model; its `size` is the memory that the worker uses.
    #[serde(flatten)]
    pub model: OllamaModel,
    /// GPU memory that the worker uses, in bytes.
    pub size_vram: u64,
    /// Maximum length of prompt and output together, in tokens.
    pub context_length: u32,
    /// Time at which the model is unloaded if no request uses it; the latest possible time unless
    /// a request set `keep_alive`.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// Response of `GET /api/ps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OllamaRunningModelList {
    /// One entry for each worker.
    pub models: Vec<OllamaRunningModel>,
}

/// Body of `POST /api/show`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct OllamaShowRequest {
    /// Model: a name that `/api/tags` lists, or its short form.
    pub model: Option<String>,
    /// Older name of `model`, used if `model` is absent or empty.
    pub name: Option<String>,
}

impl_schema! {
    OllamaShowRequest, uses [],
    "Model to show: `model`, a name that `/api/tags` lists or its short form; or `name`, if `model` \
     is absent or empty.",
    any_of([show_request("model", "name"), show_request("name", "model")])
}

fn show_request(used: &'static str, other: &'static str) -> SchemaRef {
    object([
        required(used, string(1..=UNLIMITED)),
        optional(other, nullable(text())),
    ])
}

impl OllamaShowRequest {
    /// Returns the model that the client named. Ollama's own client sends both fields, one of
    /// them empty.
    pub fn model(&self) -> Result<&str, Diagnostic> {
        [&self.model, &self.name]
            .into_iter()
            .flatten()
            .find(|name| !name.is_empty())
            .map(String::as_str)
            .ok_or_else(|| missing("model"))
    }
}

/// Response of `POST /api/show`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OllamaShowResponse {
    /// Time at which the queen started.
    #[schema(value_type = String, format = DateTime)]
    pub modified_at: Timestamp,
    pub details: OllamaModelDetails,
    /// Further properties, with the names of GGUF metadata; empty if the model's architecture
    /// is unknown.
    #[schema(value_type = Object)]
    pub model_info: Map<String, Value>,
    /// `completion`, and if the model supports them `tools`, `thinking` and `embedding`.
    pub capabilities: Vec<String>,
    /// Sampling parameters that the model recommends: a line for each, with name and value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parameters: String,
    /// Chat template, in Jinja's notation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub template: String,
    /// Name or text of the license.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub license: String,
}

impl OllamaShowResponse {
    pub fn new(facts: &ModelFacts, capabilities: Vec<String>, modified_at: Timestamp) -> Self {
        let mut model_info = Map::new();
        if !facts.architecture.is_empty() {
            model_info.insert(
                "general.architecture".into(),
                json!(facts.architecture.clone()),
            );
            model_info.insert("general.parameter_count".into(), json!(facts.parameters));
        }
        if facts.context_length > 0 {
            // Clients look for a key with this end, whatever the architecture.
            let prefix = Some(facts.architecture.as_str()).filter(|name| !name.is_empty());
            let context = format!("{}.context_length", prefix.unwrap_or("general"));
            model_info.insert(context, json!(facts.context_length));
        }
        Self {
            modified_at,
            details: facts.into(),
            model_info,
            capabilities,
            parameters: String::new(),
            template: String::new(),
            license: String::new(),
        }
    }

    /// Adds what the files of the model say.
    #[must_use]
    pub fn with_files(
        mut self,
        metadata: Map<String, Value>,
        template: Option<String>,
        license: Option<String>,
    ) -> Self {
        // Ollama shows these elsewhere or not at all.
        let hidden = ["general.name", "tokenizer.chat_template"];
        let shown = metadata
            .into_iter()
            .filter(|(key, _)| !hidden.contains(&key.as_str()));
        self.model_info.extend(shown);
        self.template = template.unwrap_or_default();
        self.license = license.unwrap_or_default();
        self
    }

    /// Adds the sampling parameters that the model recommends.
    #[must_use]
    pub fn with_sampling(mut self, sampling: &SamplingValues) -> Self {
        let recommended = sampling.to_string();
        for parameter in recommended.split(", ").filter(|text| !text.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let name = match name {
                "repetition_penalty" => "repeat_penalty",
                "penalty_window" => "repeat_last_n",
                name => name,
            };
            let value = match sampling.penalty_window {
                Some(ALL_TOKENS) if name == "repeat_last_n" => "-1",
                _ => value,
            };
            let separator = if self.parameters.is_empty() { "" } else { "\n" };
            let _ = write!(self.parameters, "{separator}{name:<30} {value}");
        }
        self
    }
}
