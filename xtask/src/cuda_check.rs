//! Checks of the worker for GPUs of NVIDIA on a machine that has one.

use std::{fs, process::Command};

use anyhow::Result;

use crate::{
    cargo::{build_binaries, root, succeed},
    cuda_toolkit::{self, BuildCudaArgs},
    haiku_test::{self, HaikuArgs},
    setup,
};

/// Builds all binaries, compares the worker for GPUs with that for the CPU, and runs the haiku
/// acceptance test on the GPU.
pub fn run(args: &BuildCudaArgs) -> Result<()> {
    setup::need_program("python3", "python3")?;
    let worker = cuda_toolkit::build(args)?;
    let bin_dir = build_binaries(true)?;
    let beside = bin_dir.join("llm-cuda-worker-rbee");
    if worker != beside {
        // The hive starts the workers that are beside it.
        fs::copy(&worker, &beside)?;
    }
    let mut check = Command::new("python3");
    check.arg(root().join("test-harness/worker-conformance/gpu_check.py"));
    check.arg("--gpu-worker").arg(&worker);
    check
        .arg("--cpu-worker")
        .arg(bin_dir.join("llm-cpu-worker-rbee"));
    succeed(check.arg("--models").arg(root().join("models/haiku")))?;
    haiku_test::run(&HaikuArgs {
        backend: "cuda".to_owned(),
        model: None,
        node: None,
        release: true,
    })
}
