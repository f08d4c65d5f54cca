//! What the workers of rbee's own engine have in common.

use std::{env, os::unix::process::CommandExt as _, path::Path, process::Command, thread};

use diagnostics::Diagnostic;
use engine_candle::{ComputeDevice, LoadOptions};
use input_validation::ModelRef;
use worker_process::{HTTP_THREADS, ServedModel, WorkerArguments, WorkerKind, serve};

use crate::errors;

/// Maximum number of running requests by default. A short prompt still finds a slot next to a
/// typical batch of eight and a long prompt. Requests use the KV cache only as far as they grow,
/// and wait when it is full.
const DEFAULT_SLOTS: u32 = 16;

/// Variables of the environment.
pub(crate) type Environment = Vec<(&'static str, String)>;

/// The variables that limit the threads of the libraries.
pub(crate) fn thread_environment(worker: Option<&WorkerArguments>) -> Environment {
    let threads = worker
        .and_then(|arguments| arguments.threads)
        .or_else(|| thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1);
    engine_candle::thread_environment(threads)
}

/// Sets variables that libraries read on their first use: the process re-executes itself if its
/// environment is another one.
pub(crate) fn need_environment(variables: Environment) -> Result<(), Diagnostic> {
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

/// Serves the model on a device; `free_bytes` returns the memory that it has, in bytes.
pub(crate) fn run(
    arguments: WorkerArguments,
    device: ComputeDevice,
    free_bytes: impl FnOnce() -> Result<u64, Diagnostic> + Send + 'static,
) -> Result<(), Diagnostic> {
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
                memory_bytes: Some(free_bytes()?),
                device,
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

/// Converts a path to a model reference. Symbolic links and dots are resolved.
fn model_ref_from_path(path: &str) -> Result<ModelRef, Diagnostic> {
    let absolute = std::fs::canonicalize(path).map_err(|e| errors::no_model_at(path, &e))?;
    format!("file:{}", absolute.display()).parse()
}
