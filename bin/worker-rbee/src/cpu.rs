//! `llm-cpu-worker-rbee`.

use std::process::ExitCode;

use clap::Parser;
use daemon_shell::Memory;
use diagnostics::Diagnostic;
use engine_candle::ComputeDevice;
use input_validation::DeviceId;
use worker_process::{WorkerArguments, exit};

use crate::{candle, errors};

/// An rbee worker that computes on the CPU: one process, one model.
#[derive(Debug, Parser)]
#[command(name = "llm-cpu-worker-rbee", version)]
struct CommandLine {
    #[command(flatten)]
    worker: Option<WorkerArguments>,
    /// Test the engine with a generated model, and exit.
    #[arg(long, exclusive = true)]
    self_test: bool,
}

pub fn main() -> ExitCode {
    exit(run(CommandLine::parse().worker))
}

fn run(worker: Option<WorkerArguments>) -> Result<(), Diagnostic> {
    candle::need_environment(candle::thread_environment(worker.as_ref()))?;
    let Some(arguments) = worker else {
        return engine_candle::self_test(&ComputeDevice::Cpu);
    };
    match arguments.device {
        DeviceId::Cpu(0) => {}
        device @ DeviceId::Cpu(_) => return Err(errors::unknown_cpu(device)),
        device @ DeviceId::Gpu(_) => return Err(errors::no_gpu(device)),
    }
    let available = || Ok(Memory::now()?.available_bytes);
    candle::run(arguments, ComputeDevice::Cpu, available)
}
