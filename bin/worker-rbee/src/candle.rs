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
use diagnostics::{Code, Diagnostic, escape};
use engine_candle::{ComputeDevice, LoadOptions};
use input_validation::{DeviceId, ModelRef};
use worker_service::Loaded;

use crate::{
    arguments::WorkerArguments,
    process::{Kind, exit, serve},
};

/// Requests that run at once unless told otherwise: a short prompt then still has a slot beside
/// a usual batch of eight and a long prompt. They take memory of the KV cache only as they
/// grow, and wait for one another when it is full.
const DEFAULT_SLOTS: u32 = 16;

/// A worker of rbee that computes on the processor: one model, one process.
#[derive(Debug, Parser)]
#[command(name = "llm-cpu-worker-rbee", version)]
struct CommandLine {
    #[command(flatten)]
    worker: Option<WorkerArguments>,
    /// Check the engine with a model made up in memory, and exit.
    #[arg(long, exclusive = true)]
    self_test: bool,
}

/// The program.
pub fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let threads = command_line.worker.as_ref().and_then(|w| w.threads);
    exit(
        with_threads(threads).and_then(|()| match command_line.worker {
            Some(arguments) => run(arguments),
            None => engine_candle::self_test(),
        }),
    )
}

/// Makes sure that the environment bounds the threads of the libraries. They read it when
/// they are first used, so the program is started anew in its own place.
fn with_threads(threads: Option<usize>) -> Result<(), Diagnostic> {
    let threads = threads
        .or_else(|| thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1);
    let wanted = engine_candle::thread_environment(threads);
    if wanted
        .iter()
        .all(|(name, value)| env::var(name).as_ref() == Ok(value))
    {
        return Ok(());
    }
    let program = env::current_exe()
        .map_err(|e| Diagnostic::internal(format!("cannot find the program itself: {e}")))?;
    let mut arguments = env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let failed = command.args(arguments).envs(wanted).exec();
    Err(Diagnostic::internal(format!(
        "cannot start the program anew: {failed}"
    )))
}

fn run(arguments: WorkerArguments) -> Result<(), Diagnostic> {
    check_device(arguments.device)?;
    let model = match &arguments.alias {
        Some(alias) => alias.clone(),
        None => named_by_path(&arguments.model)?,
    };
    let kind = Kind {
        implementation: "rbee-candle",
        model,
        slots: arguments.slots.unwrap_or(DEFAULT_SLOTS),
    };
    let path = arguments.model.clone();
    let (context_length, kv_cache_bytes) = (arguments.context_length, arguments.kv_cache_bytes);
    let threads = arguments.threads;
    serve(arguments, kind, move |progress| {
        let options = LoadOptions {
            context_length,
            kv_cache_bytes,
            memory_bytes: Some(Memory::now()?.available_bytes),
            device: ComputeDevice::Cpu,
            threads,
            progress: Some(Box::new(move |done, total| progress(done, total))),
        };
        let loaded = engine_candle::load(Path::new(&path), options)?;
        Ok(Loaded {
            engine: Box::new(loaded.engine),
            codec: loaded.codec,
        })
    })
}

fn check_device(device: DeviceId) -> Result<(), Diagnostic> {
    match device {
        DeviceId::Cpu(0) => Ok(()),
        DeviceId::Cpu(_) => Err(Diagnostic::new(
            Code::InvalidDevice,
            format!("there is no device {device}"),
        )
        .hint("the processor is `CPU-0`")),
        DeviceId::Gpu(_) => Err(Diagnostic::new(
            Code::BackendUnavailable,
            format!("this worker computes on the processor only, not on {device}"),
        )
        .hint("use `--device CPU-0`, or a worker that was built for the GPU")),
    }
}

/// A path as a reference: without links and dots, since those are not part of a name.
fn named_by_path(path: &str) -> Result<ModelRef, Diagnostic> {
    let full = std::fs::canonicalize(path).map_err(|e| {
        Diagnostic::new(
            Code::ModelNotFound,
            format!("there is no model at \"{}\": {e}", escape(path)),
        )
        .hint("let `--model` name a .gguf file or a folder with safetensors")
    })?;
    format!("file:{}", full.display()).parse()
}
