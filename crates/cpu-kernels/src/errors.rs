//! Errors of this crate.

use std::{fmt, io};

use diagnostics::Diagnostic;
use model_format::TensorType;

pub(crate) fn matrix_size(
    kind: TensorType,
    rows: usize,
    columns: usize,
    bytes: usize,
) -> Diagnostic {
    Diagnostic::internal(format!(
        "{bytes} bytes do not hold a {rows} x {columns} matrix of type {}",
        kind.name()
    ))
}

pub(crate) fn product_size(
    inputs: usize,
    rows: usize,
    columns: usize,
    outputs: usize,
) -> Diagnostic {
    Diagnostic::internal(format!(
        "cannot multiply {inputs} values by a {rows} x {columns} matrix into {outputs} values"
    ))
}

pub(crate) fn weight_allocation(bytes: usize, error: &io::Error) -> Diagnostic {
    Diagnostic::internal(format!(
        "cannot allocate {bytes} bytes for weights: {error}"
    ))
    .hint("free memory or use a smaller model")
}

pub(crate) fn thread_start(threads: usize, error: impl fmt::Display) -> Diagnostic {
    Diagnostic::internal(format!("cannot start {threads} threads: {error}"))
}
