//! The responses in the OpenAPI document: which statuses operations respond with, and the
//! headers of inference.

use std::{collections::BTreeMap, marker::PhantomData};

use diagnostics::ErrorBody;
use input_validation::{NodeName, RequestId, WorkerId};
use openai_gateway::{
    anthropic::AnthropicErrorBody, ollama::OllamaErrorBody, openai::OpenAiErrorBody,
};
use openapi_schema::{error_responses_type, reference, text, unsigned};
use queen_contract::{
    HEADER_NODE, HEADER_NOTES, HEADER_QUEUE_MS, HEADER_REQUEST_ID, HEADER_SAMPLING, HEADER_SEED,
    HEADER_WORKER, Priority,
};
use serde::Serialize;
use utoipa::{
    IntoParams, IntoResponses, ToSchema,
    openapi::{
        ContentBuilder, RefOr, Response, ResponseBuilder, header::HeaderBuilder, schema::Schema,
    },
};

/// One of two formats, by the header `anthropic-version`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the errors in the OpenAPI document")]
pub(crate) enum ErrorOfClient {
    OpenAi(OpenAiErrorBody),
    Anthropic(AnthropicErrorBody),
}

error_responses_type!(HostErrors<ErrorBody>: 403);
error_responses_type!(KeyErrors<ErrorBody>: 401, 403);
error_responses_type!(ReadErrors<ErrorBody>: 401, 403, 500);
error_responses_type!(
    PreflightErrors<ErrorBody>: 400, 401, 403, 404 "The node does not exist", 408, 413, 415
);
error_responses_type!(
    DeployErrors<ErrorBody>:
    400, 401, 403, 404 "A node, a model, or an engine for parts of models does not exist", 408,
    409 "A hive has an incompatible version", 413, 415, 500,
    502 "The hive of a node for a part of the model does not respond",
    503 "A node has no device for a part of the model", 507
);
error_responses_type!(
    UndeployErrors<ErrorBody>:
    400, 401, 403, 404 "The model is not deployed", 408, 409 "A hive has an incompatible version",
    413, 415, 500, 502 "A hive does not respond", 507
);
error_responses_type!(
    PolicyTestErrors<ErrorBody>:
    400, 401, 403, 404 "The node or the model does not exist", 408, 413, 415,
    429 "The queue for the model is full", 500, 503 "The queen is shutting down"
);
error_responses_type!(DecisionErrors<ErrorBody>: 400, 401, 403, 500);
error_responses_type!(IdErrors<ErrorBody>: 400, 401, 403);
error_responses_type!(LookupErrors<ErrorBody>: 400, 401, 403, 404, 500);
error_responses_type!(
    NotStoredErrors<OpenAiErrorBody>: 400, 401, 403, 404 "Responses are neither stored nor compacted"
);
error_responses_type!(
    WorkerErrors<ErrorBody>:
    400, 401, 403, 404 "The worker does not exist",
    409 "The hive has an incompatible version", 500, 502 "The hive does not respond"
);
error_responses_type!(
    SpawnWorkerErrors<ErrorBody>:
    400, 401, 403, 404 "The node, the model or the engine does not exist", 408,
    409 "The hive has an incompatible version", 413, 415, 499, 500,
    502 "The node or its hive does not respond, or the worker did not start",
    503 "A worker binary or a device is missing", 504, 507
);
error_responses_type!(
    StopErrors<ErrorBody>:
    400, 401, 403, 404 "The worker does not exist",
    409 "The hive has an incompatible version", 500, 502 "The hive does not respond", 507
);
error_responses_type!(
    NodeErrors<ErrorBody>:
    400, 401, 403, 404 "The node does not exist", 408,
    409 "The node exists, is being changed, or its hive has an incompatible version",
    413, 415, 500, 502 "The node or its hive does not respond", 504, 507
);
error_responses_type!(
    RemoveNodeErrors<ErrorBody>:
    400, 401, 403, 404 "The node does not exist", 409 "Workers run on the node", 500
);
error_responses_type!(
    YieldErrors<ErrorBody>:
    400, 401, 403, 404 "The node does not exist", 408, 413, 415, 500, 507
);
error_responses_type!(
    PowerErrors<ErrorBody>:
    400, 401, 403, 404 "The node does not exist", 408,
    409 "The node would be put to sleep and could not be woken", 413, 415, 500, 507
);
error_responses_type!(
    SleepErrors<ErrorBody>:
    400, 401, 403, 404 "The node does not exist", 408,
    409 "The node could not be woken, is in use, or is being changed", 413, 415, 500,
    502 "The hive does not respond, or could not suspend the machine", 503, 504
);
error_responses_type!(
    WakeErrors<ErrorBody>:
    400, 401, 403, 404 "The node does not exist",
    409 "It is not known how to wake the node", 500, 502, 503,
    504 "The node did not respond in time"
);
error_responses_type!(
    InviteErrors<ErrorBody>: 400, 401, 403, 408, 409 "The node exists or is being changed", 413, 415, 500, 507
);
error_responses_type!(
    RevokeErrors<ErrorBody>: 400, 401, 403, 404 "There is no invitation that can be used", 500, 507
);
error_responses_type!(
    JoinErrors<ErrorBody>:
    400, 401 "The invitation is not valid, was used, or has expired", 403, 408,
    409 "The node exists, or the hive has an incompatible version", 413, 415, 500, 507
);
error_responses_type!(
    LinkErrors<ErrorBody>:
    400, 401, 403, 404 "The node was removed", 409 "The hive has an incompatible version",
    426 "The request does not ask for the protocol"
);
error_responses_type!(
    HeartbeatErrors<ErrorBody>:
    400, 401, 403, 408,
    409 "A newer generation of the worker is known, or it was stopped: it must exit",
    413, 415, 500
);
error_responses_type!(
    NodeManifestErrors<ErrorBody>:
    400, 401, 403, 404 "No other node has the model", 408, 413, 415, 500,
    502 "No node that has the model responds"
);
error_responses_type!(
    NodeContentErrors<ErrorBody>:
    400, 401, 403, 404 "No other node has the file", 500, 502 "No node that has the file responds"
);
error_responses_type!(
    ShutdownErrors<ErrorBody>: 400, 401, 403, 408, 409 "A hive has an incompatible version", 413, 415, 500,
    502 "A hive does not respond", 503 "The queen is already shutting down"
);
error_responses_type!(
    JobErrors<ErrorBody>:
    400, 401, 403, 404 "The node or the job does not exist",
    409 "The hive has an incompatible version", 500, 502 "The hive does not respond"
);
error_responses_type!(
    CatalogErrors<ErrorBody>:
    400, 401, 403, 404 "The node or the model does not exist", 408,
    409 "A worker has loaded the model, or a newer version wrote a file", 413, 415, 500,
    502 "The hive does not respond", 507
);
error_responses_type!(
    CatalogSourceErrors<ErrorBody>:
    400, 401, 403 "The source of the model denies access",
    404 "The node or the model does not exist", 408, 409 "A newer version wrote a file", 413, 415,
    500, 502 "The hive or the source of the model failed",
    504 "The source of the model does not respond", 507
);
error_responses_type!(
    CatalogJobErrors<ErrorBody>:
    400, 401, 403 "The source of the model denies access",
    404 "The node or the model does not exist", 408, 409 "A newer version wrote a file", 413, 415,
    429 "Too many jobs are running", 499 "The job was cancelled", 500,
    502 "The hive or the source of the model failed", 503,
    504 "The source of the model made no progress", 507
);
error_responses_type!(
    BinaryErrors<ErrorBody>:
    400, 401, 403, 404 "The node does not exist, or the worker binary is not installed",
    409 "The hive has an incompatible version", 500, 502 "The hive does not respond", 507
);
error_responses_type!(
    PackageErrors<ErrorBody>:
    400, 401, 403, 404 "The node or the package does not exist, or the node has no catalog",
    409 "The hive or the catalog has an incompatible version", 500,
    502 "The hive or the catalog does not respond, or the catalog is not to be trusted",
    504 "The catalog made no progress", 507
);
error_responses_type!(
    BinaryChangeErrors<ErrorBody>:
    400, 401, 403, 404 "The node does not exist, or the worker binary is not installed", 408,
    409 "A worker runs from it", 413, 415, 500,
    502 "The hive does not respond, or the file was changed", 507
);
error_responses_type!(
    ProvisionErrors<ErrorBody>:
    400, 401, 403, 404 "The node or the file does not exist", 408,
    409 "The binary has another version", 413, 415, 429 "Too many jobs are running",
    499 "The job was cancelled", 500, 502 "The build, the download or the verification failed",
    503 "There is no source, or tools to build with are missing",
    504 "The server made no progress", 507
);
// The other errors of a request are events of its stream.
error_responses_type!(
    StreamErrors<ErrorBody>:
    400, 401, 403, 404 "The model or the node does not exist", 408, 413, 415
);
error_responses_type!(
    InferErrors<ErrorBody>:
    400, 401, 403, 404 "The model does not exist",
    408, 409 "A process that is needed for the response has an incompatible version",
    413, 415, 429, 500,
    502 "The hive or the worker failed or does not respond",
    503 "No worker can serve the request now",
    504 "The hive or the worker made no progress", 507
);
error_responses_type!(
    OpenAiErrors<OpenAiErrorBody>:
    400, 401, 403, 404 "The model does not exist",
    408, 409 "A process that is needed for the response has an incompatible version",
    413, 415, 429, 500,
    502 "The hive or the worker failed or does not respond",
    503 "No worker can serve the request now",
    504 "The hive or the worker made no progress", 507
);
error_responses_type!(ModelListErrors<ErrorOfClient>: 401, 403, 500);
error_responses_type!(ModelErrors<ErrorOfClient>: 400, 401, 403, 404, 500);
error_responses_type!(
    AnthropicErrors<AnthropicErrorBody>:
    400, 401, 403, 404 "The model does not exist",
    408, 409 "A process that is needed for the response has an incompatible version",
    413, 415, 429, 500,
    502 "The hive or the worker failed or does not respond",
    503 "No worker can serve the request now",
    504 "The hive or the worker made no progress", 507
);
// Ollama's routes accept bodies of any content type.
error_responses_type!(
    OllamaErrors<OllamaErrorBody>:
    400, 401, 403, 404 "The model does not exist",
    408, 409 "A process that is needed for the response has an incompatible version",
    413, 429, 500,
    502 "The hive or the worker failed or does not respond",
    503 "No worker can serve the request now",
    504 "The hive or the worker made no progress", 507
);
error_responses_type!(
    OllamaStoreErrors<OllamaErrorBody>:
    400, 401, 403, 404 "The model does not exist", 408,
    409 "A worker has loaded the model, or a newer version wrote a file", 413, 500,
    502 "The hive does not respond", 507
);
error_responses_type!(
    OllamaPullErrors<OllamaErrorBody>:
    400, 401, 403 "The source of the model denies access", 404 "The model does not exist", 408,
    409 "A newer version wrote a file", 413, 429 "Too many jobs are running",
    499 "The download was cancelled", 500, 502 "The hive or the source of the model failed", 503,
    504 "The source of the model made no progress", 507
);
error_responses_type!(OllamaKeyErrors<OllamaErrorBody>: 401, 403);
error_responses_type!(OllamaReadErrors<OllamaErrorBody>: 401, 403, 500);
error_responses_type!(OllamaShowErrors<OllamaErrorBody>: 400, 401, 403, 404, 408, 413, 500);

/// Header parameters of inference.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "only described")]
pub(crate) struct RequestHeaders {
    /// Deadline of the request. A request that is not complete then fails with
    /// `DEADLINE_EXCEEDED`.
    #[param(
        rename = "x-request-deadline",
        value_type = String,
        required = false,
        format = DateTime
    )]
    deadline: Option<jiff::Timestamp>,
    /// Priority of the request: while interactive requests for its model wait, those of priority
    /// `batch` wait. Default: what the body says, else `interactive`.
    #[param(rename = "x-request-priority", value_type = Priority, required = false)]
    priority: Option<Priority>,
    /// Node that the worker must run on. Default: any.
    #[param(rename = "x-rbee-node", value_type = String, required = false, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    node: Option<NodeName>,
}

/// The response to a short call.
pub(crate) struct CallResponse<T>(PhantomData<T>);

impl<T: ToSchema> IntoResponses for CallResponse<T> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        ok(worker_headers(json::<T>(ResponseBuilder::new())))
    }
}

/// The response to a request for text: a document, or server-sent events.
pub(crate) struct DocumentOrEvents<D, E>(PhantomData<(D, E)>);

impl<D: ToSchema, E: ToSchema> IntoResponses for DocumentOrEvents<D, E> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let response = items::<E>(json::<D>(ResponseBuilder::new()), "text/event-stream");
        ok(start_headers(worker_headers(response)))
    }
}

/// The response to a request for text: a document, or lines of JSON.
pub(crate) struct DocumentOrLines<D, L>(PhantomData<(D, L)>);

impl<D: ToSchema, L: ToSchema> IntoResponses for DocumentOrLines<D, L> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let response = items::<L>(json::<D>(ResponseBuilder::new()), "application/x-ndjson");
        ok(start_headers(worker_headers(response)))
    }
}

/// A response with the header in which Anthropic's clients expect the id of the request.
pub(crate) struct WithRequestId<R>(PhantomData<R>);

impl<R: IntoResponses> IntoResponses for WithRequestId<R> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = R::responses();
        for response in responses.values_mut() {
            if let RefOr::T(response) = response
                && let Some(id) = response.headers.get(HEADER_REQUEST_ID).cloned()
            {
                response.headers.insert("request-id".to_owned(), id);
            }
        }
        responses
    }
}

/// A response that begins before the request has a worker.
pub(crate) struct Events<E>(PhantomData<E>);

impl<E: ToSchema> IntoResponses for Events<E> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let response = items::<E>(ResponseBuilder::new(), "text/event-stream");
        ok(request_id_header(response))
    }
}

fn ok(response: ResponseBuilder) -> BTreeMap<String, RefOr<Response>> {
    let response = response.description("The response of the model");
    BTreeMap::from([("200".to_owned(), response.build().into())])
}

fn json<T: ToSchema>(response: ResponseBuilder) -> ResponseBuilder {
    let content = ContentBuilder::new().schema(Some(reference::<T>()));
    response.content("application/json", content.build())
}

fn items<T: ToSchema>(response: ResponseBuilder, content_type: &str) -> ResponseBuilder {
    let content = ContentBuilder::new().item_schema(Some(reference::<T>()));
    response.content(content_type, content.build())
}

fn worker_headers(response: ResponseBuilder) -> ResponseBuilder {
    let response = request_id_header(response);
    let response = header(
        response,
        HEADER_WORKER,
        reference::<WorkerId>(),
        "Id of the worker that served the request",
    );
    let response = header(
        response,
        HEADER_NODE,
        reference::<NodeName>(),
        "Node that the worker runs on",
    );
    header(
        response,
        HEADER_QUEUE_MS,
        unsigned(u64::MAX as usize),
        "Time until the request had a worker, loading included, in milliseconds",
    )
}

fn request_id_header(response: ResponseBuilder) -> ResponseBuilder {
    let id = reference::<RequestId>();
    header(response, HEADER_REQUEST_ID, id, "Id of the request")
}

/// Headers of a response that begins when the request has started.
fn start_headers(response: ResponseBuilder) -> ResponseBuilder {
    let response = header(
        response,
        HEADER_NOTES,
        text(),
        "What was changed in the request or ignored so that it could be served",
    );
    let response = header(
        response,
        HEADER_SAMPLING,
        text(),
        "Parameters of the sampler that are used, from request, model and defaults",
    );
    header(
        response,
        HEADER_SEED,
        unsigned(u64::MAX as usize),
        "Seed of the sampler, from the request or drawn at random",
    )
}

fn header(
    response: ResponseBuilder,
    name: &str,
    schema: RefOr<Schema>,
    description: &str,
) -> ResponseBuilder {
    let header = HeaderBuilder::new()
        .schema(Some(schema))
        .description(Some(description));
    response.header(name, header.build())
}
