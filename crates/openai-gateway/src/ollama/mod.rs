//! Ollama's API. Responses are newline-delimited JSON, streamed by default.

mod embeddings;
mod endpoint;
mod error_body;
mod keep_alive;
mod models;
mod options;
mod request;
mod responses;
mod schemas;
mod store;
mod think;
mod writer;

pub use embeddings::{
    OllamaEmbedRequest, OllamaEmbedResponse, OllamaEmbeddingsRequest, OllamaEmbeddingsResponse,
    ParsedOllamaEmbedRequest,
};
pub use endpoint::OllamaEndpoint;
pub use error_body::OllamaErrorBody;
pub use keep_alive::{OllamaKeepAlive, OllamaUnload, keep_alive, parse_unload};
pub use models::{
    ModelFacts, OllamaModel, OllamaModelList, OllamaRunningModel, OllamaRunningModelList,
    OllamaShowRequest, OllamaShowResponse,
};
pub use options::OllamaOptions;
pub use request::{OllamaChatRequest, OllamaGenerateRequest, parse};
pub use responses::{
    OllamaChatLine, OllamaChatResponse, OllamaGenerateLine, OllamaGenerateResponse,
};
pub use store::{
    OllamaCopyRequest, OllamaDeleteRequest, OllamaPullLine, OllamaPullRequest, OllamaPullStatus,
};

/// Version of Ollama whose API this is. Some clients require a minimum version.
pub const API_VERSION: &str = "0.13.0";

#[cfg(test)]
mod tests;
