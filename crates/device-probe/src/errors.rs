use std::{fmt, io, path::Path};

use diagnostics::{Code, Diagnostic};

pub(crate) fn unusable(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::storage(format!("cannot use {}: {error}", path.display()), error)
}

pub(crate) fn invalid_mock_devices(path: &Path, reason: &dyn fmt::Display) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("cannot read devices from {}: {reason}", path.display()),
    )
    .hint("write the fields of `GET /v1/capabilities` without `worker_binaries`")
}

pub(crate) fn machine_not_inspected(error: &dyn fmt::Display) -> Diagnostic {
    Diagnostic::internal(format!("cannot inspect this machine: {error}"))
}
