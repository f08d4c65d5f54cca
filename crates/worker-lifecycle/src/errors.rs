//! All errors of this crate, each with its hint.

use std::{fmt, io, path::Path, time::Duration};

use diagnostics::{Code, Diagnostic};
use hive_contract::Device;
use input_validation::{Backend, DeviceId, Generation, WorkerId};
use worker_contract::{API_VERSION, LoadProgress};

use crate::{exit::Exit, start_sequence::StartFailure};

pub(crate) fn unusable(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::storage(format!("cannot use {}: {error}", path.display()), error)
}

pub(crate) fn worker_not_found(id: &WorkerId) -> Diagnostic {
    Diagnostic::new(Code::WorkerNotFound, format!("no worker {id} on this node"))
        .hint("list the workers with `rbee-keeper worker list`")
}

pub(crate) fn fenced(id: &WorkerId, requested: Generation, known: Generation) -> Diagnostic {
    generation_conflict(
        Code::Fenced,
        format!(
            "worker {id} was already spawned as generation {known}, which is newer than the requested generation {requested}"
        ),
        requested,
        known,
    )
}

pub(crate) fn already_running(id: &WorkerId, generation: Generation) -> Diagnostic {
    generation_conflict(
        Code::WorkerExists,
        format!("worker {id} is already running as generation {generation}"),
        generation,
        generation,
    )
}

fn generation_conflict(
    code: Code,
    message: String,
    requested: Generation,
    known: Generation,
) -> Diagnostic {
    Diagnostic::new(code, message)
        .hint(format!(
            "spawn it with a generation above {known}, or under another id"
        ))
        .detail("generation", requested.0)
        .detail("known_generation", known.0)
}

/// The engine was removed after it was chosen, or its package does not provide it.
pub(crate) fn engine_gone(name: &str) -> Diagnostic {
    Diagnostic::new(
        Code::NotFound,
        format!("the engine {name} is not there any more"),
    )
    .hint("try again; `rbee-keeper doctor` shows the engines")
}

/// A field of a spawn request is invalid; `expected` is a noun phrase.
pub(crate) fn invalid_spawn_field(param: &str, expected: impl fmt::Display) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("`{param}` must be {expected}"),
    )
    .param(param)
}

pub(crate) fn binary_does_not_start(program: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::new(
        Code::WorkerStartFailed,
        format!("cannot start {}: {error}", program.display()),
    )
    .hint("check that it is an executable for this machine")
}

/// A model is to be split, and this engine cannot do that.
pub(crate) fn cannot_split(engine: &str) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedModel,
        format!("the engine {engine} cannot split a model over machines"),
    )
    .hint("use a server of llama.cpp that rbee starts: `--engine llama-cpp`")
}

/// Nothing on this machine computes parts of models.
pub(crate) fn no_part_engine(backend: Backend) -> Diagnostic {
    Diagnostic::new(
        Code::NotFound,
        format!("no engine on this node computes parts of models with backend {backend}"),
    )
    .hint(
        "install the package `llama-cpp-rpc` there with `rbee-keeper worker-binary provision`, or \
         describe an engine with `kind = \"llama-cpp-rpc\"`",
    )
}

pub(crate) fn no_device(device: DeviceId) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("this node has no device {device}"),
    )
    .hint("`rbee-keeper node list` shows the devices")
}

pub(crate) fn too_little_for_part(device: &Device, need: u64, free: u64) -> Diagnostic {
    let code = match device.id {
        DeviceId::Cpu(_) => Code::InsufficientRam,
        DeviceId::Gpu(_) => Code::InsufficientVram,
    };
    let (needs, has) = (diagnostics::bytes(need), diagnostics::bytes(free));
    let message = format!(
        "a part of the model needs {needs} on {}, and {has} are free",
        device.id
    );
    Diagnostic::new(code, message)
        .hint("free memory there, or name further machines with `--split`")
        .detail("need_bytes", need)
        .detail("available_bytes", free)
}

pub(crate) fn part_is_silent(id: &WorkerId, limit: Duration, log: Vec<String>) -> Diagnostic {
    let error = Diagnostic::new(
        Code::WorkerStartFailed,
        format!("{id} accepted no connection within {} s", limit.as_secs()),
    );
    with_log(error, id, log)
}

pub(crate) fn spawn_cancelled(id: &WorkerId) -> Diagnostic {
    Diagnostic::new(Code::Cancelled, format!("the start of {id} was cancelled"))
}

pub(crate) fn no_worker(backend: Backend) -> Diagnostic {
    Diagnostic::new(
        Code::BackendUnavailable,
        format!("no worker of rbee computes with backend {backend}"),
    )
    .hint("use `--backend cpu`")
}

pub(crate) fn no_free_port(range: &dyn fmt::Display) -> Diagnostic {
    Diagnostic::new(
        Code::PortInUse,
        format!("no free port for a worker in {range}"),
    )
    .hint("stop a worker, or widen the range with `--worker-ports`")
}

pub(crate) fn port_lost(id: &WorkerId, attempts: usize) -> Diagnostic {
    Diagnostic::new(
        Code::PortInUse,
        format!("worker {id} lost its port to another process {attempts} times"),
    )
    .hint("choose other ports with `--worker-ports`")
}

/// `exit` is one that is [out of memory](Exit::is_out_of_memory).
pub(crate) fn out_of_memory(id: &WorkerId, exit: Exit) -> Diagnostic {
    Diagnostic::new(
        Code::OutOfMemory,
        format!("worker {id} exited during startup: {exit}"),
    )
    .hint(
        "stop other workers of the node, choose a smaller quantization or context length, or use \
         a node with more memory",
    )
}

/// An exit during startup for which the worker gave no reason.
pub(crate) fn exited_during_startup(
    id: &WorkerId,
    exit: Exit,
    cause: Option<String>,
    log: Vec<String>,
) -> Diagnostic {
    let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
    let error = Diagnostic::new(
        Code::WorkerStartFailed,
        format!("worker {id} exited during startup: {exit}{cause}"),
    );
    with_log(error, id, log)
}

/// What a start failure says about the worker; also the stop cause in its record.
pub(crate) fn describe_start_failure(failure: StartFailure, port: u16) -> String {
    match failure {
        StartFailure::Exited(exit) => format!("exited during startup: {exit}"),
        StartFailure::Cancelled => "was killed because its spawn was cancelled".to_owned(),
        StartFailure::VersionMismatch(version) => format!(
            "speaks version {version} of the worker contract, this hive speaks version {API_VERSION}"
        ),
        StartFailure::NoResponse(after) => {
            format!(
                "did not respond on port {port} within {} s",
                after.as_secs()
            )
        }
        StartFailure::Stalled(after, loaded) => format!(
            "stalled while loading: no progress for {} s after {}",
            after.as_secs(),
            loaded_bytes(loaded)
        ),
        StartFailure::TooSlow(after, loaded) => format!(
            "did not finish loading within {} s, the limit for a model of its size: {} loaded",
            after.as_secs(),
            loaded_bytes(loaded)
        ),
    }
}

/// The error of a start failure that is not an exit.
pub(crate) fn start_failed(
    id: &WorkerId,
    failure: StartFailure,
    port: u16,
    log: Vec<String>,
) -> Diagnostic {
    let code = match failure {
        StartFailure::Cancelled => Code::Cancelled,
        StartFailure::VersionMismatch(_) => Code::VersionIncompatible,
        StartFailure::Stalled(..) | StartFailure::TooSlow(..) => Code::LoadingTimeout,
        StartFailure::NoResponse(_) | StartFailure::Exited(_) => Code::WorkerStartFailed,
    };
    let what = describe_start_failure(failure, port);
    let error = Diagnostic::new(code, format!("worker {id} {what}"));
    match failure {
        StartFailure::Cancelled => error,
        StartFailure::VersionMismatch(_) => {
            error.hint("install the hive and the workers from the same release")
        }
        _ => with_log(error, id, log),
    }
}

pub(crate) fn log_hint(id: &WorkerId) -> String {
    format!("read its log with `rbee-keeper worker logs {id}`")
}

fn with_log(mut error: Diagnostic, id: &WorkerId, log: Vec<String>) -> Diagnostic {
    if log.is_empty() {
        error.message += "; its log is empty";
    } else {
        error.message += "; its log ends with:";
        for line in &log {
            error.message += "\n    ";
            error.message += line;
        }
    }
    error.hint(log_hint(id)).detail("log", log)
}

fn loaded_bytes(LoadProgress { done, total }: LoadProgress) -> String {
    match total {
        0 => format!("{done} bytes"),
        total => format!("{done} of {total} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_failures_say_what_the_worker_did() {
        let id: WorkerId = "w-1".parse().unwrap();
        let loaded = LoadProgress { done: 3, total: 9 };
        for (failure, code, message) in [
            (
                StartFailure::NoResponse(Duration::from_secs(30)),
                Code::WorkerStartFailed,
                "worker w-1 did not respond on port 81 within 30 s; its log is empty",
            ),
            (
                StartFailure::Stalled(Duration::from_secs(30), loaded),
                Code::LoadingTimeout,
                "worker w-1 stalled while loading: no progress for 30 s after 3 of 9 bytes; its log is empty",
            ),
            (
                StartFailure::TooSlow(Duration::from_secs(320), loaded),
                Code::LoadingTimeout,
                "worker w-1 did not finish loading within 320 s, the limit for a model of its size: 3 of 9 bytes loaded; its log is empty",
            ),
            (
                StartFailure::Cancelled,
                Code::Cancelled,
                "worker w-1 was killed because its spawn was cancelled",
            ),
        ] {
            let error = start_failed(&id, failure, 81, Vec::new());
            assert_eq!((error.code, error.message.as_str()), (code, message));
        }
        assert_eq!(
            out_of_memory(&id, Exit::OutOfMemory).message,
            "worker w-1 exited during startup: out of memory: killed by the kernel"
        );
    }

    #[test]
    fn the_log_follows_the_message_and_is_a_detail() {
        let id: WorkerId = "w-1".parse().unwrap();
        let log = vec!["one".to_owned(), "two".to_owned()];
        let cause = Some("stopped on request".to_owned());
        let error = exited_during_startup(&id, Exit::Code(3), cause, log);
        assert_eq!(
            error.message,
            "worker w-1 exited during startup: exit code 3 (stopped on request); its log ends with:\n    one\n    two"
        );
        assert_eq!(error.details.unwrap()["log"][1], "two");
        assert!(
            error
                .hint
                .unwrap()
                .contains("`rbee-keeper worker logs w-1`")
        );
    }
}
