//! Fetching, copying and removing models.

use diagnostics::Diagnostic;
use input_validation::ModelAlias;
use openapi_schema::{
    SchemaRef, any_of, boolean, impl_schema, nullable, object, optional, required, string, text,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::OllamaErrorBody;
use crate::{errors::missing, schemas::UNLIMITED};

/// Body of `POST /api/pull`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct OllamaPullRequest {
    /// Model: a name of Ollama's registry, an alias, or a reference.
    pub model: Option<String>,
    /// Older name of `model`, used if `model` is absent or empty.
    pub name: Option<String>,
    /// Whether the response is a stream of lines. Default: true.
    pub stream: Option<bool>,
}

impl_schema! {
    OllamaPullRequest, uses [],
    "Model to fetch: `model`, a name of Ollama's registry, an alias, or a reference; or `name`, if \
     `model` is absent or empty.",
    any_of([pull_request("model", "name"), pull_request("name", "model")])
}

fn pull_request(used: &'static str, other: &'static str) -> SchemaRef {
    object([
        required(used, string(1..=UNLIMITED)),
        optional(other, nullable(text())),
        optional("stream", nullable(boolean(None))),
    ])
}

impl OllamaPullRequest {
    /// Returns the model that the client named.
    pub fn model(&self) -> Result<&str, Diagnostic> {
        named(self.model.as_ref(), self.name.as_ref())
    }
}

/// Body of `DELETE /api/delete`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct OllamaDeleteRequest {
    /// Model: a name that `/api/tags` lists, or its short form.
    pub model: Option<String>,
    /// Older name of `model`, used if `model` is absent or empty.
    pub name: Option<String>,
}

impl_schema! {
    OllamaDeleteRequest, uses [],
    "Model to remove: `model`, a name that `/api/tags` lists or its short form; or `name`, if \
     `model` is absent or empty.",
    any_of([delete_request("model", "name"), delete_request("name", "model")])
}

fn delete_request(used: &'static str, other: &'static str) -> SchemaRef {
    object([
        required(used, string(1..=UNLIMITED)),
        optional(other, nullable(text())),
    ])
}

impl OllamaDeleteRequest {
    /// Returns the model that the client named.
    pub fn model(&self) -> Result<&str, Diagnostic> {
        named(self.model.as_ref(), self.name.as_ref())
    }
}

fn named<'a>(model: Option<&'a String>, name: Option<&'a String>) -> Result<&'a str, Diagnostic> {
    [model, name]
        .into_iter()
        .flatten()
        .find(|name| !name.is_empty())
        .map(String::as_str)
        .ok_or_else(|| missing("model"))
}

/// Body of `POST /api/copy`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct OllamaCopyRequest {
    /// Model: a name that `/api/tags` lists, or its short form.
    pub source: String,
    /// Another name for the model.
    pub destination: ModelAlias,
}

/// Line of the response of `POST /api/pull`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum OllamaPullLine {
    /// What is happening. The last line of a successful pull has the status `success`.
    Status(OllamaPullStatus),
    /// The pull failed. This is the last line.
    Error(Box<OllamaErrorBody>),
}

/// Progress of a pull, and the response without streaming.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OllamaPullStatus {
    /// `pulling manifest`, `pulling` and a digest, `verifying sha256 digest`,
    /// `writing manifest`, `success`.
    pub status: String,
    /// SHA-256 of the file that is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub digest: Option<String>,
    /// Size of the file, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub total: Option<u64>,
    /// Bytes of the file that were fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub completed: Option<u64>,
}

impl OllamaPullStatus {
    /// A line that has a status only.
    pub fn new(status: &str) -> Self {
        Self {
            status: status.to_owned(),
            ..Self::default()
        }
    }

    /// Progress of the file with this SHA-256, in hexadecimal.
    pub fn pulling(sha256: &str, completed: u64, total: Option<u64>) -> Self {
        let short: String = sha256.chars().take(12).collect();
        Self {
            status: format!("pulling {short}"),
            digest: Some(format!("sha256:{sha256}")),
            total,
            completed: Some(completed),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn progress_has_ollamas_form() {
        let line = OllamaPullStatus::pulling(&"ab".repeat(32), 5, Some(7));
        let expected = json!({
            "status": "pulling abababababab", "digest": format!("sha256:{}", "ab".repeat(32)),
            "total": 7, "completed": 5,
        });
        assert_eq!(serde_json::to_value(line).unwrap(), expected);
        let line = OllamaPullStatus::new("success");
        assert_eq!(
            serde_json::to_value(line).unwrap(),
            json!({"status": "success"})
        );
    }

    #[test]
    fn either_name_of_the_field_is_read() {
        let model = |body| {
            let request: OllamaPullRequest = serde_json::from_value(body).unwrap();
            request.model().map(str::to_owned)
        };
        assert_eq!(model(json!({"name": "a"})).unwrap(), "a");
        assert_eq!(model(json!({"name": "a", "model": "b"})).unwrap(), "b");
        assert!(model(json!({"model": ""})).is_err());
    }
}
