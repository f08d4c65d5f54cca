//! Fetching, copying and removing models through Ollama's API.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::State,
    response::{IntoResponse as _, Response},
};
use daemon_shell::{ErrorResponse, line_stream};
use diagnostics::{Code, Diagnostic};
use futures_util::{Stream, StreamExt as _, stream};
use hive_contract::{AliasRequest, JobEvent, ModelQuery, PullRequest};
use http::StatusCode;
use input_validation::{ModelAlias, ModelRef};
use openai_gateway::ollama::{
    OllamaCopyRequest, OllamaDeleteRequest, OllamaErrorBody, OllamaPullLine, OllamaPullRequest,
    OllamaPullStatus,
};

use crate::{
    Api, errors,
    inference::find_model,
    ollama::AnyJson,
    responses::{OllamaPullErrors, OllamaStoreErrors},
};

type JobEvents = Pin<Box<dyn Stream<Item = Result<JobEvent, Diagnostic>> + Send>>;

/// Fetch a model
///
/// Unless `stream` is false, the response is a stream of lines. The download continues when the
/// client leaves.
#[utoipa::path(post, path = "/api/pull", tag = "ollama", request_body = OllamaPullRequest,
    responses((status = 200, description = "The last status, or the lines",
        content((OllamaPullStatus = "application/json"), ("application/x-ndjson", item_schema = OllamaPullLine))),
        OllamaPullErrors))]
pub(crate) async fn pull(
    State(api): State<Arc<Api>>,
    AnyJson(body): AnyJson<OllamaPullRequest>,
) -> Result<Response, ErrorResponse> {
    let request = PullRequest {
        model: requested(&api, body.model()?)?,
        revision: None,
    };
    let job = api.nodes.pull(None, &request).await?;
    let events = api.nodes.model_job_events(None, &job.job_id).await?;
    let events: JobEvents = Box::pin(events);
    if body.stream != Some(false) {
        return Ok(lines(events));
    }
    let mut events = events;
    while let Some(event) = events.next().await {
        match event? {
            JobEvent::Result(_) => {
                return Ok(Json(OllamaPullStatus::new("success")).into_response());
            }
            JobEvent::Error(error) => return Err(error.into()),
            JobEvent::Cancelled {} => return Err(cancelled().into()),
            JobEvent::Narration(_) | JobEvent::Progress(_) => {}
        }
    }
    Err(errors::hive_stream_ended().into())
}

/// Returns the model to fetch: one that the nodes know by this name, a reference, or a name of
/// Ollama's registry, which is where Ollama's clients expect a name to be.
fn requested(api: &Api, name: &str) -> Result<ModelRef, Diagnostic> {
    if let Some(model) = api.nodes.named(name) {
        return Ok(model);
    }
    match ModelRef::from_name(name) {
        Ok(model @ ModelRef::Builtin { .. }) if api.nodes.known_model(&model).is_some() => {
            Ok(model)
        }
        Ok(model) if !matches!(model, ModelRef::Builtin { .. }) => Ok(model),
        _ => format!("ollama:{name}")
            .parse()
            .map_err(|_| queen_nodes::model_not_found(name)),
    }
}

fn cancelled() -> Diagnostic {
    Diagnostic::new(Code::Cancelled, "the download was cancelled")
        .hint("what was fetched is kept; pull the model again to continue")
}

fn lines(events: JobEvents) -> Response {
    let first = OllamaPullLine::Status(OllamaPullStatus::new("pulling manifest"));
    let end = stream::once(async { Err(errors::hive_stream_ended()) });
    let rest = events.chain(end).scan(false, |finished, event| {
        if *finished {
            return std::future::ready(None);
        }
        let event = event.unwrap_or_else(JobEvent::Error);
        *finished = event.is_terminal();
        std::future::ready(Some(stream::iter(lines_of(event))))
    });
    let lines = stream::iter([first]).chain(rest.flatten());
    line_stream(lines.map(|line| {
        // Serializing plain data into memory cannot fail.
        let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
        bytes.push(b'\n');
        Ok::<_, Infallible>(Bytes::from(bytes))
    }))
}

fn lines_of(event: JobEvent) -> Vec<OllamaPullLine> {
    let status = |text| OllamaPullLine::Status(OllamaPullStatus::new(text));
    let error = |error| OllamaPullLine::Error(Box::new(OllamaErrorBody::from(error)));
    match event {
        JobEvent::Progress(progress) => match &progress.sha256 {
            Some(sha256) if progress.item.is_some() => {
                let line = OllamaPullStatus::pulling(sha256, progress.done, progress.total);
                vec![OllamaPullLine::Status(line)]
            }
            _ => Vec::new(),
        },
        JobEvent::Narration(_) => Vec::new(),
        JobEvent::Result(_) => vec![
            status("verifying sha256 digest"),
            status("writing manifest"),
            status("success"),
        ],
        JobEvent::Error(diagnostic) => vec![error(diagnostic)],
        JobEvent::Cancelled {} => vec![error(cancelled())],
    }
}

/// Remove a model, or one of its other names
#[utoipa::path(delete, path = "/api/delete", tag = "ollama", request_body = OllamaDeleteRequest,
    responses((status = 200, description = "The model is removed"), OllamaStoreErrors))]
pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    AnyJson(body): AnyJson<OllamaDeleteRequest>,
) -> Result<StatusCode, ErrorResponse> {
    let name = body.model()?;
    if let Some(alias) = own_alias(&api, name) {
        let request = AliasRequest {
            name: alias,
            model: None,
        };
        api.nodes.set_alias(None, &request).await?;
        return Ok(StatusCode::OK);
    }
    let model = find_model(&api, name).await?;
    api.nodes.remove_model(None, &ModelQuery { model }).await?;
    Ok(StatusCode::OK)
}

/// The alias with this name, if a user has set it.
fn own_alias(api: &Api, name: &str) -> Option<ModelAlias> {
    let name: ModelAlias = name.parse().ok()?;
    let (aliases, _) = api.nodes.aliases_and_notices();
    let mut own = aliases.into_iter().filter(|alias| !alias.shipped);
    own.find(|alias| alias.name == name).map(|alias| alias.name)
}

/// Give a model another name
#[utoipa::path(post, path = "/api/copy", tag = "ollama", request_body = OllamaCopyRequest,
    responses((status = 200, description = "The model has the name"), OllamaStoreErrors))]
pub(crate) async fn copy(
    State(api): State<Arc<Api>>,
    AnyJson(body): AnyJson<OllamaCopyRequest>,
) -> Result<StatusCode, ErrorResponse> {
    let model = find_model(&api, &body.source).await?;
    let model = api.nodes.check_model(&model).await?;
    let request = AliasRequest {
        name: body.destination,
        model: Some(model),
    };
    api.nodes.set_alias(None, &request).await?;
    Ok(StatusCode::OK)
}

#[cfg(test)]
mod tests {
    use hive_contract::Progress;
    use serde_json::json;

    use super::*;

    async fn body(events: Vec<Result<JobEvent, Diagnostic>>) -> Vec<serde_json::Value> {
        let response = lines(Box::pin(stream::iter(events)));
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        let text = String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn progress(item: Option<&str>) -> JobEvent {
        JobEvent::Progress(Progress {
            phase: "download".into(),
            item: item.map(str::to_owned),
            sha256: item.map(|_| "ab".repeat(32)),
            done: 1,
            total: Some(2),
            unit: "bytes".into(),
            rate: None,
            eta_seconds: None,
        })
    }

    #[tokio::test]
    async fn a_pull_has_ollamas_lines() {
        let events = [
            progress(None),
            progress(Some("a")),
            JobEvent::Result(json!({})),
        ];
        let lines = body(events.map(Ok).to_vec()).await;
        let statuses: Vec<_> = lines.iter().map(|line| line["status"].clone()).collect();
        assert_eq!(
            statuses,
            [
                "pulling manifest",
                "pulling abababababab",
                "verifying sha256 digest",
                "writing manifest",
                "success"
            ]
        );
        assert_eq!(
            (&lines[1]["completed"], &lines[1]["total"]),
            (&json!(1), &json!(2))
        );
    }

    #[tokio::test]
    async fn a_failed_pull_ends_with_its_error() {
        let failed = Diagnostic::new(Code::ModelNotFound, "no such model");
        let lost = Diagnostic::new(Code::HiveUnreachable, "gone");
        for (events, message) in [
            (vec![Ok(JobEvent::Error(failed))], "no such model"),
            (vec![Ok(progress(None)), Err(lost)], "gone"),
            (
                vec![Ok(JobEvent::Cancelled {})],
                "the download was cancelled",
            ),
            (vec![], "the hive's event stream ended"),
        ] {
            let lines = body(events).await;
            assert_eq!(lines.len(), 2);
            let error = lines[1]["error"].as_str().unwrap();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
