//! The errors of this crate.

use std::io;

use diagnostics::{Code, Diagnostic, escape};
use input_validation::DeviceId;

pub(crate) fn not_reexecuted(cause: &io::Error) -> Diagnostic {
    internal("cannot re-execute the binary", cause)
}

fn internal(what: &str, cause: &io::Error) -> Diagnostic {
    Diagnostic::internal(format!("{what}: {cause}"))
}

pub(crate) fn unknown_cpu(device: DeviceId) -> Diagnostic {
    let message = format!("the device {device} does not exist");
    Diagnostic::new(Code::InvalidDevice, message).hint("use `--device CPU-0`")
}

pub(crate) fn no_gpu(device: DeviceId) -> Diagnostic {
    let message = format!("this worker computes on the CPU only, not on {device}");
    Diagnostic::new(Code::BackendUnavailable, message)
        .hint("use `--device CPU-0`, or a worker that is built for the GPU")
}

#[cfg(feature = "cuda")]
pub(crate) fn no_cpu(device: DeviceId) -> Diagnostic {
    let message = format!("this worker computes on GPUs only, not on {device}");
    Diagnostic::new(Code::BackendUnavailable, message)
        .hint("use `--device GPU-0`, or `llm-cpu-worker-rbee`")
}

pub(crate) fn no_model_at(path: &str, cause: &io::Error) -> Diagnostic {
    let message = format!("there is no model at \"{}\": {cause}", escape(path));
    Diagnostic::new(Code::ModelNotFound, message)
        .hint("set `--model` to a .gguf file or a directory with safetensors")
}

pub(crate) fn self_test_rows(rows: usize) -> Diagnostic {
    Diagnostic::internal(format!(
        "self-test failed: the engine returned {rows} rows of logits instead of 1"
    ))
}
