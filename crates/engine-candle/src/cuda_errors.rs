//! Errors of opening a GPU of NVIDIA.

use std::fmt;

use candle_core::Error;
use diagnostics::{Code, Diagnostic};

use crate::errors::brief;

fn unavailable(message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(Code::CudaUnavailable, message)
}

pub(crate) fn no_cuda_driver(code: &dyn fmt::Debug) -> Diagnostic {
    unavailable(format!("the driver of NVIDIA does not work: {code:?}")).hint(
        "install the NVIDIA driver, so that `nvidia-smi` lists the GPU, or say `--backend cpu`",
    )
}

pub(crate) fn no_cuda_gpu() -> Diagnostic {
    unavailable("the driver of NVIDIA shows no GPU to this process")
        .hint("check `nvidia-smi` and the number in `--device`, or say `--backend cpu`")
}

pub(crate) fn cuda_not_opened(error: &Error) -> Diagnostic {
    unavailable(format!("the GPU cannot be used: {}", brief(error))).hint(
        "install the libraries of CUDA 13 (cuBLAS, cuRAND and NVRTC), and set RBEE_CUDA_LIB_DIR to \
         their directory unless the system's loader finds them, or say `--backend cpu`",
    )
}

pub(crate) fn cuda_computes_wrong(problem: &str) -> Diagnostic {
    unavailable(format!(
        "this worker does not compute on this GPU: {problem}"
    ))
    .hint(
        "build the worker on this machine: it was built for GPUs of another compute capability; \
         or say `--backend cpu`",
    )
}
