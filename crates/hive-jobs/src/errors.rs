//! The errors of this crate.

use std::{fmt, time::Duration};

use diagnostics::{Code, Diagnostic};
use input_validation::JobId;

use crate::JOBS_KEPT;

pub(crate) fn too_many_jobs() -> Diagnostic {
    Diagnostic::new(
        Code::QueueFull,
        format!("{JOBS_KEPT} jobs are running on this hive"),
    )
    .hint("wait for one to finish, or cancel one")
    .detail("retry_after_seconds", 5)
}

pub(crate) fn job_not_found(id: &JobId) -> Diagnostic {
    Diagnostic::new(Code::JobNotFound, format!("no job {id}")).hint(format!(
        "a hive keeps its last {JOBS_KEPT} jobs until it exits"
    ))
}

pub(crate) fn panicked(panic: &impl fmt::Display) -> Diagnostic {
    Diagnostic::internal(format!("the job panicked: {panic}"))
}

pub(crate) fn cancelled(what: &str) -> Diagnostic {
    Diagnostic::new(Code::Cancelled, format!("{what} was cancelled"))
}

pub(crate) fn too_slow(what: &str, limit: Duration) -> Diagnostic {
    Diagnostic::new(
        Code::DeadlineExceeded,
        format!("{what} took longer than {} s", limit.as_secs()),
    )
}
