use std::{env, thread};

use diagnostics::Diagnostic;
use engine_adapter::{AdapterSettings, Engine, EngineSource, KEY_VARIABLE};
use tokio::runtime::Handle;
use worker_process::{WorkerArguments, WorkerKind, serve_model};

use crate::{args::EngineArguments, errors};

/// Number of running requests that an engine is asked for by default.
const DEFAULT_SLOTS: u32 = 4;
/// Number of threads that serve HTTP. A stream passes through several tasks, which would wake each
/// other on other threads for every token.
const HTTP_THREADS: usize = 1;

/// Returns the words that start this program as the guard of an engine.
fn launcher() -> Result<String, Diagnostic> {
    Ok(daemon_shell::own_binary()?.to_string_lossy().into_owned())
}

pub(crate) fn run(arguments: WorkerArguments, engine: EngineArguments) -> Result<(), Diagnostic> {
    let kind = engine.engine;
    let key = engine_adapter::api_key(
        engine.engine_key_file.as_deref(),
        env::var(KEY_VARIABLE).ok(),
    )?;
    let alias = match &arguments.alias {
        Some(alias) => alias.clone(),
        None => engine_adapter::model_ref(kind, &arguments.model)?,
    };
    let slots = arguments.slots.unwrap_or(DEFAULT_SLOTS);
    let available = thread::available_parallelism().map_or(1, usize::from);
    let source = match engine.attach {
        Some(url) => EngineSource::Attach(url),
        None => EngineSource::Command {
            launcher: launcher()?,
            command: engine.command,
        },
    };
    let settings = AdapterSettings {
        kind,
        source,
        key,
        engine_model: engine
            .engine_model
            .unwrap_or_else(|| arguments.model.clone()),
        model: arguments.model.clone(),
        alias: alias.clone(),
        context_length: arguments.context_length,
        slots,
        threads: arguments.threads.unwrap_or(available),
    };
    let worker = WorkerKind {
        implementation: kind.name(),
        model: alias,
        slots,
        http_threads: HTTP_THREADS,
    };
    let engine = Engine::new(settings)?;
    let started = engine.clone();
    let result = serve_model(
        arguments,
        worker,
        |name| env::var_os(name),
        move |progress| Handle::current().block_on(engine_adapter::load(started, progress)),
    );
    engine.end();
    result
}

pub(crate) fn self_test() -> Result<(), Diagnostic> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| errors::no_runtime(&error))?;
    runtime.block_on(engine_adapter::self_test(launcher()?))
}
