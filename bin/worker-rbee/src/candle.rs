//! `llm-cpu-worker-rbee`.

use std::{
    env,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitCode},
    thread,
};

use clap::Parser;
use daemon_shell::Memory;
use diagnostics::Diagnostic;
use engine_candle::{ComputeDevice, LoadOptions};
use input_validation::{DeviceId, ModelRef};
use worker_process::{HTTP_THREADS, ServedModel, WorkerArguments, WorkerKind, exit, serve};

use crate::errors;

/// Maximum number of running requests by default. A short prompt still finds a slot next to a
/// typical batch of eight and a long prompt. Requests use the KV cache only as far as they grow,
/// and wait when it is full.
const DEFAULT_SLOTS: u32 = 16;

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
    let command_line = CommandLine::parse();
    let threads = command_line.worker.as_ref().and_then(|w| w.threads);
    exit(
        limit_threads(threads).and_then(|()| match command_line.worker {
            Some(arguments) => run(arguments),
            None => engine_candle::self_test(),
        }),
    )
}

/// Limits the threads of the libraries. They read the limit from the environment on their first
/// use, so the process re-executes itself if the environment is not set.
fn limit_threads(threads: Option<usize>) -> Result<(), Diagnostic> {
    let threads = threads
        .or_else(|| thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1);
    let variables = engine_candle::thread_environment(threads);
    if variables
        .iter()
        .all(|(name, value)| env::var(name).as_ref() == Ok(value))
    {
        return Ok(());
    }
    let binary = daemon_shell::own_binary()?;
    let mut arguments = env::args_os();
    let mut command = Command::new(binary);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let error = command.args(arguments).envs(variables).exec();
    Err(errors::not_reexecuted(&error))
}

fn run(arguments: WorkerArguments) -> Result<(), Diagnostic> {
    check_device(arguments.device)?;
    let model = match &arguments.alias {
        Some(alias) => alias.clone(),
        None => model_ref_from_path(&arguments.model)?,
    };
    let kind = WorkerKind {
        implementation: "rbee-candle",
        model,
        slots: arguments.slots.unwrap_or(DEFAULT_SLOTS),
        http_threads: HTTP_THREADS,
    };
    let path = arguments.model.clone();
    let (context_length, kv_cache_bytes) = (arguments.context_length, arguments.kv_cache_bytes);
    let threads = arguments.threads;
    serve(
        arguments,
        kind,
        |name| env::var_os(name),
        move |progress| {
            let options = LoadOptions {
                context_length,
                kv_cache_bytes,
                memory_bytes: Some(Memory::now()?.available_bytes),
                device: ComputeDevice::Cpu,
                threads,
                progress: Some(Box::new(move |done, total| progress(done, total))),
            };
            let loaded = engine_candle::load(Path::new(&path), options)?;
            for warning in loaded.warnings {
                tracing::warn!("{warning}");
            }
            Ok(ServedModel {
                engine: Box::new(loaded.engine),
                codec: loaded.codec,
            })
        },
    )
}

fn check_device(device: DeviceId) -> Result<(), Diagnostic> {
    match device {
        DeviceId::Cpu(0) => Ok(()),
        DeviceId::Cpu(_) => Err(errors::unknown_cpu(device)),
        DeviceId::Gpu(_) => Err(errors::no_gpu(device)),
    }
}

/// Converts a path to a model reference. Symbolic links and dots are resolved.
fn model_ref_from_path(path: &str) -> Result<ModelRef, Diagnostic> {
    let absolute = std::fs::canonicalize(path).map_err(|e| errors::no_model_at(path, &e))?;
    format!("file:{}", absolute.display()).parse()
}
