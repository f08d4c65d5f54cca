//! `llm-cuda-worker-rbee`.

use std::process::ExitCode;

use clap::Parser;
use diagnostics::Diagnostic;
use engine_candle::{ComputeDevice, CudaGpu};
use input_validation::DeviceId;
use worker_process::{WorkerArguments, exit};

use crate::{
    candle::{self, Environment},
    errors,
};

/// Memory of the GPU that is left for the activations of a step, in bytes.
const STEP_BYTES: u64 = 256 << 20;

/// An rbee worker that computes on a GPU of NVIDIA: one process, one model.
#[derive(Debug, Parser)]
#[command(name = "llm-cuda-worker-rbee", version)]
struct CommandLine {
    #[command(flatten)]
    worker: Option<WorkerArguments>,
    /// Test the engine with a generated model on the first GPU, and exit.
    #[arg(long, exclusive = true)]
    self_test: bool,
}

pub fn main() -> ExitCode {
    exit(run(CommandLine::parse().worker))
}

fn run(worker: Option<WorkerArguments>) -> Result<(), Diagnostic> {
    let mut environment = candle::thread_environment(worker.as_ref());
    let Some(arguments) = worker else {
        candle::need_environment(environment)?;
        return engine_candle::self_test(&ComputeDevice::Cuda(CudaGpu::open()?));
    };
    match arguments.device {
        DeviceId::Gpu(index) => environment.extend(only_gpu(index)),
        device @ DeviceId::Cpu(_) => return Err(errors::no_cpu(device)),
    }
    candle::need_environment(environment)?;
    // Before the worker listens: without a GPU it has nothing to serve.
    let gpu = CudaGpu::open()?;
    let device = ComputeDevice::Cuda(gpu.clone());
    candle::run(arguments, device, move || {
        Ok(gpu.free_bytes()?.saturating_sub(STEP_BYTES))
    })
}

/// The variables by which CUDA shows this process its GPU only, as the first one. The hive numbers
/// GPUs in the order of their slots.
fn only_gpu(index: u16) -> Environment {
    vec![
        ("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()),
        ("CUDA_VISIBLE_DEVICES", index.to_string()),
    ]
}
