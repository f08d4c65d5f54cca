use std::{collections::BTreeSet, str::FromStr, sync::Arc};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    response::{IntoResponse as _, Response},
};
use daemon_shell::{Answer, JsonBody, PathArg, event_stream};
use diagnostics::{Diagnostic, ErrorBody};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use openai_gateway::{
    Call, ChatAnswer, ChatRequest, ChunkWriter, ClientFields, CompletionAnswer, CompletionRequest,
    Edge, Envelope, Model, ModelList, in_clients_words, told_reason,
};
use queen_contract::InferEvent;
use scheduler::Want;
use serde_json::Value;
use tokio::sync::mpsc;
use worker_contract::{EndEvent, StreamEvent, ToolChoice};
use worker_registry::Filter;

use super::{
    answers::{Source as _, broken_off, carry, encoded, named, new_request_id, opening},
    choices::{self, ChoiceEvent, Choices, Others},
};
use crate::{app::App, models};

/// Most events that are put to a whole answer at once.
const AT_ONCE: usize = 32;

/// Chat, as OpenAI's clients ask for it
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai", request_body = ChatRequest,
    responses((status = 200, body = ChatAnswer, description = "with `stream: true`, chunks as `text/event-stream`"),
        (status = "default", body = ErrorBody)))]
pub async fn chat(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Answer> {
    serve(&app, Edge::Chat, &headers, &body).await
}

/// Text completion, as OpenAI's clients ask for it
#[utoipa::path(post, path = "/v1/completions", tag = "openai", request_body = CompletionRequest,
    responses((status = 200, body = CompletionAnswer, description = "with `stream: true`, chunks as `text/event-stream`"),
        (status = "default", body = ErrorBody)))]
pub async fn completion(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Answer> {
    serve(&app, Edge::Completion, &headers, &body).await
}

async fn serve(
    app: &Arc<App>,
    edge: Edge,
    headers: &HeaderMap,
    body: &Value,
) -> Result<Response, Answer> {
    let call = Call::parse(edge, body)?;
    let model = models::parse(&call.model)?;
    app.models.check(&model).await?;
    let id = new_request_id()?;
    let envelope = Envelope {
        request_id: id.clone(),
        model: call.model.clone(),
        created: Timestamp::now().as_second(),
        system_fingerprint: concat!("rbee-", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let style = Style {
        edge,
        stream: call.stream,
        include_usage: call.include_usage,
        logprobs: call.logprobs.is_some(),
        choices: call.choices,
        fields: call.fields,
        tool_choice: call.tool_choice.clone(),
    };
    let want = Want {
        model,
        backend: None,
        node: None,
    };
    let mut request = call.into_request(id.clone(), None);
    let others = Others {
        requests: choices::requests(&mut request, style.choices)?,
        app: Arc::clone(app),
        want: want.clone(),
        headers: headers.clone(),
    };
    let fields = style.fields;
    let first = carry(app, want, request, headers)?;
    let response = match answer(first, others, &envelope, style).await {
        Ok(response) => response,
        Err(error) => {
            let error = in_clients_words(error, fields);
            Answer(error.correlated(id.as_str())).into_response()
        }
    };
    Ok(named(response, &id))
}

/// How the client wants its answer.
#[derive(Clone)]
struct Style {
    edge: Edge,
    stream: bool,
    include_usage: bool,
    logprobs: bool,
    choices: u32,
    /// What it calls what a worker may refuse.
    fields: ClientFields,
    tool_choice: ToolChoice,
}

impl Style {
    /// The end as the client is told of it.
    fn told(&self, end: EndEvent) -> EndEvent {
        EndEvent {
            reason: told_reason(&self.tool_choice, end.reason),
            ..end
        }
    }
}

/// The answer from its first event on: until then an error is an HTTP error.
async fn answer(
    mut first: mpsc::Receiver<InferEvent>,
    others: Others,
    envelope: &Envelope,
    style: Style,
) -> Result<Response, Diagnostic> {
    let opening = opening(&mut first).await?;
    let choices = Choices::new(&envelope.request_id, first, others);
    let mut response = if style.stream {
        chunks(choices, envelope, style)
    } else {
        whole(choices, envelope, style).await?
    };
    opening.mark(&mut response);
    Ok(response)
}

fn chunks(choices: Choices, envelope: &Envelope, style: Style) -> Response {
    let mut writer = ChunkWriter::new(
        style.edge,
        envelope,
        style.include_usage,
        style.logprobs,
        style.choices,
    );
    let mut first = Vec::new();
    for choice in 0..style.choices {
        writer.start(choice, &mut first);
    }
    let rest = encoded(
        choices,
        move |(choice, event): ChoiceEvent, out: &mut Vec<u8>| match event {
            InferEvent::Worker(StreamEvent::Token(token)) => writer.token(choice, &token, out),
            InferEvent::Worker(StreamEvent::End(end)) => {
                writer.end(choice, &style.told(end), out);
            }
            InferEvent::Worker(StreamEvent::Error(error)) => {
                writer.error(in_clients_words(error, style.fields), out);
            }
            _ => {}
        },
    );
    let first = stream::iter((!first.is_empty()).then(|| Bytes::from(first)));
    event_stream(first.chain(rest))
}

async fn whole(
    mut choices: Choices,
    envelope: &Envelope,
    style: Style,
) -> Result<Response, Diagnostic> {
    let mut answer = openai_gateway::Answer::new(style.logprobs, style.choices);
    let mut events = Vec::new();
    let mut complete = false;
    while !complete {
        if choices.recv_many(&mut events, AT_ONCE).await == 0 {
            return Err(broken_off());
        }
        for (choice, event) in events.drain(..) {
            match event {
                InferEvent::Worker(StreamEvent::Token(token)) => answer.token(choice, &token),
                InferEvent::Worker(StreamEvent::End(end)) => {
                    complete = answer.end(choice, &style.told(end));
                }
                InferEvent::Worker(StreamEvent::Error(error)) => {
                    return Err(error.detail("partial_text", answer.text()));
                }
                _ => {}
            }
        }
    }
    let body = answer
        .finish(style.edge, envelope)
        .map_err(Diagnostic::internal)?;
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

/// Models that can be asked for
#[utoipa::path(get, path = "/v1/models", tag = "openai",
    responses((status = 200, body = ModelList), (status = "default", body = ErrorBody)))]
pub async fn models(State(app): State<Arc<App>>) -> Result<Json<ModelList>, Answer> {
    Ok(Json(ModelList::new(listed(&app).await?)))
}

/// What a client calls a model; anything may be asked for.
pub struct Name(String);

impl FromStr for Name {
    type Err = Diagnostic;
    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        Ok(Self(text.to_owned()))
    }
}

/// One model
#[utoipa::path(get, path = "/v1/models/{id}", tag = "openai",
    params(("id" = String, Path, description = "the model's name")),
    responses((status = 200, body = Model), (status = "default", body = ErrorBody)))]
pub async fn model(
    State(app): State<Arc<App>>,
    PathArg(Name(id)): PathArg<Name>,
) -> Result<Json<Model>, Answer> {
    let found = listed(&app).await?.into_iter().find(|m| m.id == id);
    found.map(Json).ok_or_else(|| models::not_found(&id).into())
}

async fn listed(app: &App) -> Result<Vec<Model>, Diagnostic> {
    let created = app.started_at.as_second();
    let names = names(app).await?.into_iter();
    Ok(names.map(|name| Model::new(name, created)).collect())
}

/// The models of the nodes, those that are deployed, and those that workers serve.
pub async fn names(app: &App) -> Result<BTreeSet<String>, Diagnostic> {
    let has = app.models.list().await;
    let deployed = app.store.call(|store| store.deployments()).await?;
    let workers = app.dispatcher.snapshot(Filter::default()).await?.workers;
    Ok(has
        .into_iter()
        .map(|entry| entry.model)
        .chain(deployed.into_iter().map(|row| row.place.model))
        .chain(workers.into_iter().map(|worker| worker.info.model_id))
        .map(|model| model.to_string())
        .collect())
}
