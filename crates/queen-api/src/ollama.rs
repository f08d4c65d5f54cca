use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{FromRequest, Request, State},
    response::{IntoResponse as _, Response},
};
use daemon_shell::{ErrorResponse, JsonBody};
use hive_contract::{ModelFormat, StoredFiles};
use http::{HeaderMap, HeaderValue, header};
use input_validation::{DeviceId, ModelRef};
use jiff::Timestamp;
use openai_gateway::ollama::{
    API_VERSION, ModelFacts, OllamaChatLine, OllamaChatRequest, OllamaChatResponse, OllamaEndpoint,
    OllamaGenerateLine, OllamaGenerateRequest, OllamaGenerateResponse, OllamaKeepAlive,
    OllamaModel, OllamaModelList, OllamaRunningModel, OllamaRunningModelList, OllamaShowRequest,
    OllamaShowResponse, keep_alive, parse, parse_unload,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{Capability, WorkerInfo};

use crate::{
    Api,
    inference::find_model,
    respond::{request_context, respond},
    responses::{
        DocumentOrLines, HostErrors, OllamaErrors, OllamaKeyErrors, OllamaReadErrors,
        OllamaShowErrors, RequestHeaders,
    },
};

/// Marks in the chat templates of models that reason before they answer.
const THINKING: [&str; 3] = ["<think>", "enable_thinking", "reasoning_content"];

/// A JSON body of any content type: Ollama's own examples use `curl -d`, which declares a
/// form.
pub(crate) struct AnyJson<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for AnyJson<T> {
    type Rejection = ErrorResponse;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, ErrorResponse> {
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        let JsonBody(body) = JsonBody::from_request(request, state).await?;
        Ok(Self(body))
    }
}

/// Create a chat completion
///
/// Unless `stream` is false, the response is a stream of lines.
#[utoipa::path(post, path = "/api/chat", tag = "ollama", request_body = OllamaChatRequest,
    params(RequestHeaders),
    responses(DocumentOrLines<OllamaChatResponse, OllamaChatLine>, OllamaErrors))]
pub(crate) async fn chat(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    AnyJson(body): AnyJson<Value>,
) -> Result<Response, ErrorResponse> {
    infer(&api, OllamaEndpoint::Chat, &headers, &body).await
}

/// Create a text completion
///
/// Unless `stream` is false, the response is a stream of lines.
#[utoipa::path(post, path = "/api/generate", tag = "ollama", request_body = OllamaGenerateRequest,
    params(RequestHeaders),
    responses(DocumentOrLines<OllamaGenerateResponse, OllamaGenerateLine>, OllamaErrors))]
pub(crate) async fn generate(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    AnyJson(body): AnyJson<Value>,
) -> Result<Response, ErrorResponse> {
    infer(&api, OllamaEndpoint::Generate, &headers, &body).await
}

async fn infer(
    api: &Api,
    endpoint: OllamaEndpoint,
    headers: &HeaderMap,
    body: &Value,
) -> Result<Response, ErrorResponse> {
    let context = request_context()?;
    if let Some(unload) = parse_unload(endpoint, body, &context)? {
        let model = find_model(api, &unload.model).await?;
        api.dispatcher
            .keep_loaded(model, Some(Duration::ZERO))
            .await;
        let json = (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        return Ok(([json], unload.response).into_response());
    }
    let parsed = parse(endpoint, body, &context)?;
    let model = find_model(api, &parsed.model).await?;
    let response = respond(api, headers, model.clone(), parsed).await?;
    if let Some(time) = keep_alive(body)? {
        let limit = match time {
            OllamaKeepAlive::For(time) => Some(time),
            OllamaKeepAlive::Forever => None,
        };
        // The request is running, so that the time begins when it has ended.
        api.dispatcher.keep_loaded(model, limit).await;
    }
    Ok(response)
}

/// List the models that can be requested
#[utoipa::path(get, path = "/api/tags", tag = "ollama",
    responses((status = 200, body = OllamaModelList, description = "The models"), OllamaReadErrors))]
pub(crate) async fn tags(
    State(api): State<Arc<Api>>,
) -> Result<Json<OllamaModelList>, ErrorResponse> {
    let names = api.model_names().await?;
    let workers = api.workers().await?;
    let mut models = Vec::new();
    for name in names {
        let facts = facts(&api, &name, &workers).await;
        let mut model = OllamaModel::new(name, &facts, api.started_at);
        if let Some(files) = stored(&api, &model.name) {
            model.modified_at = files.added_at;
            model.digest = files.sha256.unwrap_or(model.digest);
        }
        models.push(model);
    }
    let (aliases, _) = api.nodes.aliases_and_notices();
    for alias in aliases {
        let target = api.nodes.canonical(alias.model).to_string();
        if let Some(listed) = models.iter().find(|model| model.name == target) {
            let name = alias.name.to_string();
            models.push(OllamaModel {
                model: name.clone(),
                name,
                ..listed.clone()
            });
        }
    }
    let models = models.into_iter().map(OllamaModel::with_name_of_ollama);
    Ok(Json(OllamaModelList {
        models: models.collect(),
    }))
}

/// Show one model
#[utoipa::path(post, path = "/api/show", tag = "ollama", request_body = OllamaShowRequest,
    responses((status = 200, body = OllamaShowResponse, description = "The model"), OllamaShowErrors))]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    AnyJson(body): AnyJson<OllamaShowRequest>,
) -> Result<Json<OllamaShowResponse>, ErrorResponse> {
    let requested = body.model()?;
    let model = find_model(&api, requested).await?;
    let name = model.to_string();
    if !api.model_names().await?.contains(&name) {
        return Err(queen_nodes::model_not_found(requested).into());
    }
    let supported = api.nodes.capabilities(&model);
    let mut capabilities = vec!["completion".to_owned()];
    for (capability, name) in [
        (Capability::Tools, "tools"),
        (Capability::Embed, "embedding"),
        (Capability::Vision, "vision"),
    ] {
        if supported.contains(&capability) {
            capabilities.push(name.to_owned());
        }
    }
    let details = api.nodes.model_details(&model).await;
    let template = details.as_ref().and_then(|d| d.template.as_ref());
    let thinks = match &model {
        ModelRef::Mock(settings) => settings.contains("answer=think"),
        _ => template.is_some_and(|t| THINKING.iter().any(|mark| t.contains(mark))),
    };
    if thinks {
        capabilities.push("thinking".to_owned());
    }
    let facts = facts(&api, &name, &api.workers().await?).await;
    let added_at = stored(&api, &name).map_or(api.started_at, |files| files.added_at);
    let shown = OllamaShowResponse::new(&facts, capabilities, added_at);
    Ok(Json(match details {
        None => shown,
        Some(details) => shown
            .with_files(details.metadata, details.template, details.license)
            .with_sampling(&details.model.sampling),
    }))
}

/// List the models that workers are serving
#[utoipa::path(get, path = "/api/ps", tag = "ollama",
    responses((status = 200, body = OllamaRunningModelList, description = "The models"), OllamaReadErrors))]
pub(crate) async fn processes(
    State(api): State<Arc<Api>>,
) -> Result<Json<OllamaRunningModelList>, ErrorResponse> {
    let snapshot = api.snapshot().await?;
    let unloads: HashMap<_, _> = snapshot.unloads.into_iter().collect();
    let workers: Vec<_> = snapshot.workers.into_iter().map(|w| w.info).collect();
    let now = Timestamp::now();
    let mut models = Vec::new();
    for worker in &workers {
        let name = worker.model_id.to_string();
        let facts = facts(&api, &name, &workers).await;
        let mut model = OllamaModel::new(name, &facts, api.started_at);
        model.size = worker.memory_bytes;
        models.push(OllamaRunningModel {
            model: model.with_name_of_ollama(),
            size_vram: match worker.device {
                DeviceId::Cpu(_) => 0,
                DeviceId::Gpu(_) => worker.memory_bytes,
            },
            context_length: worker.context_length,
            expires_at: unloads
                .get(&worker.model_id)
                .and_then(|remaining| now.checked_add(*remaining).ok())
                .unwrap_or(Timestamp::MAX),
        });
    }
    Ok(Json(OllamaRunningModelList { models }))
}

/// Response of `GET /api/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct OllamaVersion {
    /// Version of Ollama whose API is implemented, not the version of the queen.
    version: &'static str,
}

/// Show the version of Ollama whose API is implemented
#[utoipa::path(get, path = "/api/version", tag = "ollama",
    responses((status = 200, body = OllamaVersion, description = "The version"), OllamaKeyErrors))]
pub(crate) async fn version() -> Json<OllamaVersion> {
    Json(OllamaVersion {
        version: API_VERSION,
    })
}

/// Check that the queen responds
///
/// Ollama's command line calls this route before all others.
#[utoipa::path(get, path = "/", tag = "ollama", security(()),
    responses((status = 200, body = String, description = "A fixed text",
        content_type = "text/plain; charset=utf-8"), HostErrors))]
pub(crate) async fn alive() -> &'static str {
    "rbee is running"
}

/// Returns the files of a model that a node has on its disk.
fn stored(api: &Api, name: &str) -> Option<StoredFiles> {
    api.nodes.known_model(&name.parse().ok()?)?.files
}

/// Returns what a node reports of a model, and the context length of its worker if that is not
/// in the files.
async fn facts(api: &Api, name: &str, workers: &[WorkerInfo]) -> ModelFacts {
    let described = match name.parse() {
        Ok(model @ ModelRef::File(_)) => api.nodes.described_model(&model).await,
        Ok(model) => api.nodes.known_model(&model),
        Err(_) => None,
    };
    let facts = described.map_or_else(ModelFacts::default, |entry| ModelFacts {
        format: match entry.format {
            ModelFormat::Gguf => "gguf".to_owned(),
            ModelFormat::Safetensors => "safetensors".to_owned(),
            ModelFormat::Mock => String::new(),
        },
        architecture: entry.architecture,
        quantization: entry.quantization,
        size_bytes: entry.size_bytes,
        parameters: entry.parameters,
        context_length: entry.context_length,
    });
    let mut serving = workers.iter().filter(|w| w.model_id.to_string() == name);
    let mut served = || serving.next().map_or(0, |worker| worker.context_length);
    ModelFacts {
        context_length: match facts.context_length {
            0 => served(),
            known => known,
        },
        ..facts
    }
}
