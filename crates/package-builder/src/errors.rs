use std::{io, path::Path};

use diagnostics::{Code, Diagnostic, bytes, escape, excerpt};
use pkgbuild::PkgbuildError;

use crate::{Approval, Limits, Phase, tools::Missing};

/// Most characters of a foreign text in a message.
const EXCERPT: usize = 300;

/// A limit that was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exceeded {
    Processes,
    Memory,
    Disk,
    Files,
    Depth,
    Log,
    Time,
}

pub(crate) fn storage(verb: &str, path: &Path, cause: &io::Error) -> Diagnostic {
    let path = escape(&path.display().to_string());
    Diagnostic::storage(format!("cannot {verb} {path}: {cause}"), cause)
}

pub(crate) fn cancelled() -> Diagnostic {
    Diagnostic::new(Code::Cancelled, "the build was cancelled")
}

pub(crate) fn not_approved(needed: Approval) -> Diagnostic {
    Diagnostic::new(
        Code::PackageNotApproved,
        format!("nobody has agreed to run this PKGBUILD, whose SHA-256 is {needed}"),
    )
    .hint(format!(
        "read the PKGBUILD; if you agree to run it, repeat the command with `--approve {needed}`"
    ))
    .detail("sha256", needed.to_string())
}

pub(crate) fn invalid(message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(Code::PackageInvalid, message).hint("correct the PKGBUILD, or choose another")
}

pub(crate) fn recipe(error: &PkgbuildError) -> Diagnostic {
    let invalid = invalid(format!(
        "the PKGBUILD cannot be used: {}",
        excerpt(&error.to_string(), EXCERPT)
    ));
    match error {
        PkgbuildError::SplitPackage(names) | PkgbuildError::NoSuchPackage { known: names, .. } => {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            invalid.hint(format!("choose one of {}", names.join(", ")))
        }
        _ => invalid,
    }
}

pub(crate) fn no_sandbox(reason: &str) -> Diagnostic {
    Diagnostic::new(
        Code::SandboxUnavailable,
        format!("builds cannot be isolated on this machine: {}", excerpt(reason, EXCERPT)),
    )
    .hint(
        "install bubblewrap with `apt-get install bubblewrap fakeroot`, and permit user namespaces (`sysctl kernel.unprivileged_userns_clone=1`, `sysctl kernel.apparmor_restrict_unprivileged_userns=0`)",
    )
}

pub(crate) fn missing(missing: &[Missing]) -> Diagnostic {
    let names: Vec<&str> = missing.iter().map(|m| m.program).collect();
    let packages: Vec<&str> = missing.iter().map(|m| m.package).collect();
    let code = if names == ["nvcc"] {
        Code::CudaToolkitMissing
    } else if names.contains(&"bwrap") {
        Code::SandboxUnavailable
    } else {
        Code::BuildToolsMissing
    };
    Diagnostic::new(
        code,
        format!(
            "the build needs programs that are missing: {}",
            names.join(", ")
        ),
    )
    .hint(format!(
        "install them with `apt-get install {}`",
        packages.join(" ")
    ))
    .detail("missing", names)
}

pub(crate) fn checksum(source: &str, kind: &str, expected: &str, found: &str) -> Diagnostic {
    Diagnostic::new(
        Code::ChecksumMismatch,
        format!(
            "the {kind} of {} is {found}, and the PKGBUILD states {expected}",
            escape(source)
        ),
    )
    .hint("the source was changed or damaged; do not build it unless you know why")
    .detail("source", escape(source))
    .detail("expected", expected)
    .detail("found", found)
}

/// An error of a download, whose texts and codes are those of models.
pub(crate) fn download(source: &str, mut error: Diagnostic) -> Diagnostic {
    if matches!(error.code, Code::ModelNotFound | Code::ModelAccessDenied) {
        error.code = Code::DownloadFailed;
        error.hint = Some("check the sources of the PKGBUILD".to_owned());
    }
    error.message = format!("cannot fetch {}: {}", escape(source), error.message);
    error
}

/// `lines` are the last ones that the phase has printed.
pub(crate) fn failed(phase: Phase, what: &str, lines: &[String], log: &Path) -> Diagnostic {
    let mut message = format!("{phase} failed: {what}");
    for line in lines {
        message.push_str("\n  ");
        message.push_str(line);
    }
    with_log(Diagnostic::new(Code::BuildFailed, message), phase, log)
}

pub(crate) fn exceeded(
    phase: Phase,
    exceeded: Exceeded,
    limits: &Limits,
    log: &Path,
) -> Diagnostic {
    let what = match exceeded {
        Exceeded::Processes => format!("more than {} processes", limits.processes),
        Exceeded::Memory => format!("more than {} of memory", bytes(limits.memory)),
        Exceeded::Disk => format!("more than {} of disk", bytes(limits.disk)),
        Exceeded::Files => format!("more than {} files", limits.files),
        Exceeded::Depth => "directories that are nested too deeply".to_owned(),
        Exceeded::Log => format!("more than {} of output", bytes(limits.log)),
        Exceeded::Time => format!("more than {} s", limits.step.as_secs_f64()),
    };
    let message = format!("{phase} was stopped: it used {what}");
    let error = Diagnostic::new(Code::BuildFailed, message);
    with_log(error, phase, log)
}

fn with_log(error: Diagnostic, phase: Phase, log: &Path) -> Diagnostic {
    let log = escape(&log.display().to_string());
    error
        .hint(format!("read the build log with `less {log}`"))
        .detail("log", log)
        .detail("phase", phase.to_string())
}
