use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    extract::{FromRequest, Request, State},
    response::Response,
};
use daemon_shell::{Answer, JsonBody};
use diagnostics::Diagnostic;
use hive_contract::ModelFormat;
use http::{HeaderMap, HeaderValue, header};
use input_validation::{DeviceId, ModelRef};
use jiff::Timestamp;
use openai_gateway::ollama::{
    API_VERSION, ModelFacts, OllamaChatRequest, OllamaEndpoint, OllamaErrorBody,
    OllamaGenerateRequest, OllamaModel, OllamaModelList, OllamaResponse, OllamaRunningModel,
    OllamaRunningModelList, OllamaShowRequest, OllamaShowResponse, parse, resolve_model,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{Capability, WorkerInfo};
use worker_registry::Filter;

use super::{
    openai,
    respond::{request_context, respond},
};
use crate::{app::App, models};

/// JSON whatever it is called: Ollama's own examples send it with `curl -d`, as a form.
pub struct AnyJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for AnyJson<T> {
    type Rejection = Answer;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, Answer> {
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        let JsonBody(body) = JsonBody::from_request(request, state).await?;
        Ok(Self(body))
    }
}

/// Chat, as Ollama's clients ask for it
#[utoipa::path(post, path = "/api/chat", tag = "ollama", request_body = OllamaChatRequest,
    responses((status = 200, body = OllamaResponse, description = "unless `stream` is false, lines as `application/x-ndjson`"),
        (status = "default", body = OllamaErrorBody)))]
pub async fn chat(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    AnyJson(body): AnyJson<Value>,
) -> Result<Response, Answer> {
    infer(&app, OllamaEndpoint::Chat, &headers, &body).await
}

/// Text completion, as Ollama's clients ask for it
#[utoipa::path(post, path = "/api/generate", tag = "ollama", request_body = OllamaGenerateRequest,
    responses((status = 200, body = OllamaResponse, description = "unless `stream` is false, lines as `application/x-ndjson`"),
        (status = "default", body = OllamaErrorBody)))]
pub async fn generate(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    AnyJson(body): AnyJson<Value>,
) -> Result<Response, Answer> {
    infer(&app, OllamaEndpoint::Generate, &headers, &body).await
}

async fn infer(
    app: &Arc<App>,
    endpoint: OllamaEndpoint,
    headers: &HeaderMap,
    body: &Value,
) -> Result<Response, Answer> {
    let parsed = parse(endpoint, body, &request_context()?)?;
    let model = meant(app, &parsed.model).await?;
    respond(app, headers, model, parsed).await
}

/// The model that a client names, also by its short name.
pub async fn meant(app: &App, name: &str) -> Result<ModelRef, Diagnostic> {
    if let Ok(model) = name.parse() {
        return Ok(model);
    }
    let listed: BTreeSet<String> = openai::names(app).await?;
    let found = resolve_model(name, listed.iter().map(String::as_str));
    models::parse(found.unwrap_or(name))
}

/// Models that can be asked for, as Ollama's clients list them
#[utoipa::path(get, path = "/api/tags", tag = "ollama",
    responses((status = 200, body = OllamaModelList), (status = "default", body = OllamaErrorBody)))]
pub async fn tags(State(app): State<Arc<App>>) -> Result<Json<OllamaModelList>, Answer> {
    let names = openai::names(&app).await?;
    let workers = workers(&app).await?;
    let models = names.into_iter().map(|name| {
        let facts = facts(&app, &name, &workers);
        OllamaModel::new(name, &facts, app.started_at)
    });
    Ok(Json(OllamaModelList {
        models: models.collect(),
    }))
}

/// What is known of a model
#[utoipa::path(post, path = "/api/show", tag = "ollama", request_body = OllamaShowRequest,
    responses((status = 200, body = OllamaShowResponse), (status = "default", body = OllamaErrorBody)))]
pub async fn show(
    State(app): State<Arc<App>>,
    AnyJson(body): AnyJson<OllamaShowRequest>,
) -> Result<Json<OllamaShowResponse>, Answer> {
    let name = body.model()?;
    let model = meant(&app, name).await?;
    if !openai::names(&app).await?.contains(&model.to_string()) {
        return Err(models::not_found(name).into());
    }
    let can = app.models.capabilities(&model);
    let model = model.to_string();
    let mut capabilities = vec!["completion".to_owned()];
    for (capability, name) in [
        (Capability::Tools, "tools"),
        (Capability::Embed, "embedding"),
    ] {
        if can.contains(&capability) {
            capabilities.push(name.to_owned());
        }
    }
    let facts = facts(&app, &model, &workers(&app).await?);
    Ok(Json(OllamaShowResponse::new(
        &facts,
        capabilities,
        app.started_at,
    )))
}

/// Models that workers serve now
#[utoipa::path(get, path = "/api/ps", tag = "ollama",
    responses((status = 200, body = OllamaRunningModelList), (status = "default", body = OllamaErrorBody)))]
pub async fn processes(
    State(app): State<Arc<App>>,
) -> Result<Json<OllamaRunningModelList>, Answer> {
    let workers = workers(&app).await?;
    let running = workers.iter().map(|worker| {
        let name = worker.model_id.to_string();
        let facts = facts(&app, &name, &workers);
        let mut model = OllamaModel::new(name, &facts, app.started_at);
        model.size = worker.memory_bytes;
        OllamaRunningModel {
            model,
            size_vram: match worker.device {
                DeviceId::Cpu(_) => 0,
                DeviceId::Gpu(_) => worker.memory_bytes,
            },
            context_length: worker.context_length,
            expires_at: Timestamp::MAX,
        }
    });
    Ok(Json(OllamaRunningModelList {
        models: running.collect(),
    }))
}

/// Answer of `GET /api/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OllamaVersion {
    /// Of the Ollama whose API is served, not of this queen.
    pub version: &'static str,
}

/// The version of Ollama whose API is served
#[utoipa::path(get, path = "/api/version", tag = "ollama",
    responses((status = 200, body = OllamaVersion), (status = "default", body = OllamaErrorBody)))]
pub async fn version() -> Json<OllamaVersion> {
    Json(OllamaVersion {
        version: API_VERSION,
    })
}

/// What Ollama's command line looks at first
pub async fn alive() -> &'static str {
    "rbee is running"
}

async fn workers(app: &App) -> Result<Vec<WorkerInfo>, Diagnostic> {
    let workers = app.dispatcher.snapshot(Filter::default()).await?.workers;
    Ok(workers.into_iter().map(|worker| worker.info).collect())
}

/// What the hive tells of the model; of one that it does not list, what its worker tells.
fn facts(app: &App, name: &str, workers: &[WorkerInfo]) -> ModelFacts {
    let known = name.parse().ok().and_then(|model| app.models.known(&model));
    if let Some(entry) = known {
        return ModelFacts {
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
        };
    }
    let mut serving = workers.iter().filter(|w| w.model_id.to_string() == name);
    ModelFacts {
        context_length: serving.next().map_or(0, |worker| worker.context_length),
        ..ModelFacts::default()
    }
}
