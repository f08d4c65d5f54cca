use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use daemon_shell::{Answer, PathArg, event_stream};
use diagnostics::{Code, Diagnostic, ErrorBody};
use futures_util::StreamExt as _;
use hive_contract::{JobAccepted, JobEvent, JobStatus};
use hive_jobs::Job;
use http::{HeaderMap, HeaderName, StatusCode, header};
use input_validation::JobId;

use super::{Hive, sse::encode};

/// Where a job stands
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "the job's name")),
    responses((status = 200, body = JobStatus), (status = "default", body = ErrorBody)))]
pub async fn show(
    State(hive): State<Arc<Hive>>,
    PathArg(id): PathArg<JobId>,
) -> Result<Json<JobStatus>, Answer> {
    Ok(Json(hive.jobs.get(&id)?.status()))
}

/// A job's events, from the first to the terminal one
#[utoipa::path(get, path = "/v1/jobs/{id}/events", tag = "jobs",
    params(("id" = String, Path, description = "the job's name")),
    responses((status = 200, body = JobEvent, content_type = "text/event-stream"),
        (status = "default", body = ErrorBody)))]
pub async fn events(
    State(hive): State<Arc<Hive>>,
    PathArg(id): PathArg<JobId>,
) -> Result<Response, Answer> {
    let job = hive.jobs.get(&id)?;
    Ok(stream(&hive, &job))
}

/// Cancel a job
#[utoipa::path(delete, path = "/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "the job's name")),
    responses((status = 204, description = "it is cancelled, or was over already"),
        (status = "default", body = ErrorBody)))]
pub async fn cancel(
    State(hive): State<Arc<Hive>>,
    PathArg(id): PathArg<JobId>,
) -> Result<StatusCode, Answer> {
    hive.jobs.get(&id)?.cancel().await;
    Ok(StatusCode::NO_CONTENT)
}

fn stream(hive: &Hive, job: &Arc<Job>) -> Response {
    let events = job.events().map(|event| encode(&event));
    event_stream(events.take_until(hive.stop.clone().cancelled_owned()))
}

/// Answers a long call by what is asked for: its events, its name at once, or its result.
pub(super) async fn answer(
    hive: &Hive,
    job: &Arc<Job>,
    headers: &HeaderMap,
) -> Result<Response, Answer> {
    let asks = |name: HeaderName, value: &str| {
        let mut all = headers.get_all(name).iter();
        all.any(|v| {
            v.to_str()
                .is_ok_and(|v| v.to_ascii_lowercase().contains(value))
        })
    };
    if asks(header::ACCEPT, "text/event-stream") {
        return Ok(stream(hive, job));
    }
    if asks(HeaderName::from_static("prefer"), "respond-async") {
        let job_id = job.id().clone();
        let location = [(header::LOCATION, format!("/v1/jobs/{job_id}"))];
        let accepted = Json(JobAccepted { job_id });
        return Ok((StatusCode::ACCEPTED, location, accepted).into_response());
    }
    let end = tokio::select! {
        end = job.finished() => end,
        () = hive.stop.cancelled() => JobEvent::Error(
            Diagnostic::new(Code::Draining, "the hive ends and does not follow the job any more")
                .correlated(job.id().as_str()),
        ),
    };
    match end {
        JobEvent::Result(result) => Ok(Json(result).into_response()),
        JobEvent::Error(error) => Err(Answer(error)),
        _ => Err(Answer(
            Diagnostic::new(Code::Cancelled, format!("job {} was cancelled", job.id()))
                .correlated(job.id().as_str()),
        )),
    }
}
