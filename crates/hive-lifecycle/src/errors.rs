//! The errors of this crate.

use std::{io, path::Path};

use diagnostics::{Code, Diagnostic, excerpt};
use hive_contract::{API_VERSION, HiveHealth};

pub(crate) fn cannot_execute(program: &Path, error: &io::Error) -> Diagnostic {
    let code = match error.kind() {
        io::ErrorKind::NotFound => Code::HiveNotInstalled,
        _ => Code::HiveStartFailed,
    };
    Diagnostic::new(code, format!("cannot start {}: {error}", program.display()))
        .hint("rbee binaries must be in the same directory; build them with `cargo build`")
}

/// The hive reported why it cannot start.
pub(crate) fn start_refused(reason: Diagnostic, log: &Path) -> Diagnostic {
    let hint = match reason.code {
        Code::PortInUse => {
            "stop the process that listens there, or choose another port: `rbee-keeper --hive-port PORT queen start`"
                .to_owned()
        }
        _ => reason.hint.unwrap_or_else(|| see(log)),
    };
    Diagnostic::new(
        Code::HiveStartFailed,
        format!("the hive cannot start: {}", reason.message),
    )
    .hint(hint)
}

/// The hive did not start and reported no reason.
pub(crate) fn start_failed(what: &str, last_log_lines: &[String], log: &Path) -> Diagnostic {
    let log_end = if last_log_lines.is_empty() {
        String::new()
    } else {
        format!("; its log ends with: {}", last_log_lines.join(" | "))
    };
    Diagnostic::new(Code::HiveStartFailed, format!("the hive {what}{log_end}")).hint(see(log))
}

pub(crate) fn version_incompatible(url: &str, health: &HiveHealth) -> Diagnostic {
    Diagnostic::new(
        Code::VersionIncompatible,
        format!(
            "the hive at {url} is version {} (interface {}), this queen is version {} (interface {API_VERSION})",
            excerpt(&health.version, 40),
            health.api_version,
            env!("CARGO_PKG_VERSION"),
        ),
    )
    .hint("stop the old hive, then start the queen again: `rbee-keeper queen stop`, `rbee-keeper queen start`")
    .detail("hive_api_version", health.api_version)
    .detail("queen_api_version", API_VERSION)
}

pub(crate) fn exited() -> Diagnostic {
    Diagnostic::new(
        Code::HiveUnreachable,
        "the hive exited and is being restarted",
    )
}

pub(crate) fn does_not_exit(pid: u32) -> Diagnostic {
    Diagnostic::internal(format!("the hive (process {pid}) does not exit"))
}

fn see(log: &Path) -> String {
    format!("see {}", log.display())
}
