use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use daemon_shell::{ErrorResponse, PathArg, event_stream};
use diagnostics::{Code, Diagnostic};
use futures_util::StreamExt as _;
use hive_contract::{JobAccepted, JobEvent, JobStatus};
use hive_jobs::Job;
use http::{HeaderMap, HeaderName, StatusCode, header};
use input_validation::JobId;

use super::{Hive, responses::JobErrors, sse::encode};

/// State of a job
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs",
    params(("id" = JobId, Path, description = "id of the job")),
    responses((status = 200, body = JobStatus, description = "The state"), JobErrors))]
pub async fn show(
    State(hive): State<Arc<Hive>>,
    PathArg(id): PathArg<JobId>,
) -> Result<Json<JobStatus>, ErrorResponse> {
    Ok(Json(hive.jobs.get(&id)?.status()))
}

/// Events of a job, from the first to the terminal one
#[utoipa::path(get, path = "/v1/jobs/{id}/events", tag = "jobs",
    params(("id" = JobId, Path, description = "id of the job")),
    responses((status = 200, description = "The events",
        content(("text/event-stream", item_schema = JobEvent))), JobErrors))]
pub async fn events(
    State(hive): State<Arc<Hive>>,
    PathArg(id): PathArg<JobId>,
) -> Result<Response, ErrorResponse> {
    let job = hive.jobs.get(&id)?;
    Ok(stream(&hive, &job))
}

/// Cancel a job
#[utoipa::path(delete, path = "/v1/jobs/{id}", tag = "jobs",
    params(("id" = JobId, Path, description = "id of the job")),
    responses((status = 204, description = "The job is cancelled, or had already finished"), JobErrors))]
pub async fn cancel(
    State(hive): State<Arc<Hive>>,
    PathArg(id): PathArg<JobId>,
) -> Result<StatusCode, ErrorResponse> {
    hive.jobs.get(&id)?.cancel().await;
    Ok(StatusCode::NO_CONTENT)
}

fn stream(hive: &Hive, job: &Arc<Job>) -> Response {
    let events = job.events().map(|event| encode(&event));
    event_stream(events.take_until(hive.stop.clone().cancelled_owned()))
}

/// Responds to a long call as its headers request: with the job's events, with its id
/// immediately, or with its result.
pub(super) async fn respond(
    hive: &Hive,
    job: &Arc<Job>,
    headers: &HeaderMap,
) -> Result<Response, ErrorResponse> {
    let requests = |name: HeaderName, value: &str| {
        let mut all = headers.get_all(name).iter();
        all.any(|v| {
            v.to_str()
                .is_ok_and(|v| v.to_ascii_lowercase().contains(value))
        })
    };
    if requests(header::ACCEPT, "text/event-stream") {
        return Ok(stream(hive, job));
    }
    if requests(HeaderName::from_static("prefer"), "respond-async") {
        let job_id = job.id().clone();
        let location = [(header::LOCATION, format!("/v1/jobs/{job_id}"))];
        let accepted = Json(JobAccepted { job_id });
        return Ok((StatusCode::ACCEPTED, location, accepted).into_response());
    }
    let event = tokio::select! {
        event = job.finished() => event,
        () = hive.stop.cancelled() => JobEvent::Error(
            Diagnostic::new(Code::Draining, "the hive is shutting down and no longer follows the job")
                .correlation_id(job.id().as_str()),
        ),
    };
    match event {
        JobEvent::Result(result) => Ok(Json(result).into_response()),
        JobEvent::Error(error) => Err(ErrorResponse(error)),
        _ => Err(ErrorResponse(
            Diagnostic::new(Code::Cancelled, format!("job {} was cancelled", job.id()))
                .correlation_id(job.id().as_str()),
        )),
    }
}
