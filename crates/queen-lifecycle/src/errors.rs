//! All errors of this crate, each with its hint.

use std::{io, path::Path, time::Duration};

use diagnostics::{Code, Diagnostic, excerpt};
use queen_contract::API_VERSION;

pub(crate) fn version_incompatible(version: &str, api_version: u32) -> Diagnostic {
    Diagnostic::new(
        Code::VersionIncompatible,
        format!(
            "the running queen {} speaks interface version {api_version}, this rbee-keeper {} speaks interface version {API_VERSION}",
            excerpt(version, 40),
            env!("CARGO_PKG_VERSION")
        ),
    )
    .hint("stop it with `rbee-keeper queen stop`; the next command starts the installed one")
    .detail("queen_api_version", api_version)
    .detail("keeper_api_version", API_VERSION)
}

/// A queen whose process is alive and that does not respond.
pub(crate) fn unresponsive(pid: u32, error: &Diagnostic) -> Diagnostic {
    Diagnostic::new(
        Code::QueenUnreachable,
        format!("the queen is running (pid {pid}), but {error}"),
    )
    .hint(
        "it may be finishing its last requests: try again, read its log with `rbee-keeper queen \
         logs`, or stop it with `rbee-keeper queen stop`",
    )
}

pub(crate) fn no_response(limit: Duration) -> Diagnostic {
    Diagnostic::new(
        Code::QueenUnreachable,
        format!("the queen did not respond within {} s", limit.as_secs()),
    )
}

pub(crate) fn start_lock_timeout(limit: Duration) -> Diagnostic {
    Diagnostic::new(
        Code::QueenStartFailed,
        format!(
            "another rbee-keeper has been starting or stopping the queen for {} s",
            limit.as_secs()
        ),
    )
    .hint("stop the other rbee-keeper, then try again")
}

pub(crate) fn binary_does_not_start(program: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::new(
        Code::QueenStartFailed,
        format!("cannot run {}: {error}", program.display()),
    )
    .hint("rbee binaries must be in the same directory; `--queen-binary` selects another one")
}

/// A start that failed for a reason that the queen did not give. `log` are its last lines.
pub(crate) fn start_failed(what: &str, log: &[String]) -> Diagnostic {
    let message = if log.is_empty() {
        format!("{what}; its log is empty")
    } else {
        format!("{what}; its log ends with:\n  {}", log.join("\n  "))
    };
    Diagnostic::new(Code::QueenStartFailed, message)
        .hint("read its log with `rbee-keeper queen logs`")
}

pub(crate) fn hive_did_not_exit(pid: u32, limit: Duration, log: &Path) -> Diagnostic {
    Diagnostic::new(
        Code::HiveUnreachable,
        format!(
            "the hive (pid {pid}) did not exit within {} s after its shutdown",
            limit.as_secs()
        ),
    )
    .hint(format!("read its log at {}", log.display()))
}

pub(crate) fn workers_not_stopped(
    workers: &[String],
    reason: Option<&Diagnostic>,
    log: &Path,
) -> Diagnostic {
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    Diagnostic::new(
        Code::HiveUnreachable,
        format!(
            "no hive could stop the workers {}{reason}",
            workers.join(", ")
        ),
    )
    .hint(format!(
        "read the hive's log at {}, then try again",
        log.display()
    ))
}

pub(crate) fn record_not_removed(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::storage(format!("cannot remove {}: {error}", path.display()), error)
}

pub(crate) fn home_unusable(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::storage(
        format!("cannot write to {}: {error}", path.display()),
        error,
    )
}

pub(crate) fn log_unusable(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::storage(
        format!("cannot use the log {}: {error}", path.display()),
        error,
    )
}
