use std::{ffi::OsString, net::SocketAddr, path::Path, process::ExitCode, sync::Arc};

use daemon_shell::{Token, init_logging};
use diagnostics::{Code, Diagnostic};
use inference_execution::{Engine, Runtime, RuntimeConfig};
use input_validation::ModelRef;
use text_codec::Codec;
use worker_contract::{QUEEN_TOKEN_FILE_ENV, WORKER_TOKEN_FILE_ENV};
use worker_service::{ProgressCallback, ServiceConfig, SharedService, WorkerConfig};

use crate::{arguments::WorkerArguments, errors};

/// Number of threads that serve HTTP beside an engine that has its own threads.
pub const HTTP_THREADS: usize = 2;

/// Reads a variable of the environment, which only binaries do.
pub type Variables = fn(&str) -> Option<OsString>;

/// Properties that depend on the kind of worker.
#[derive(Debug)]
pub struct WorkerKind {
    /// Name of the engine in `WorkerInfo`.
    pub implementation: &'static str,
    /// Model reference that clients use.
    pub model: ModelRef,
    /// Maximum number of running requests.
    pub slots: u32,
    /// Number of threads that serve HTTP.
    pub http_threads: usize,
}

/// A loaded model, before its runtime starts.
pub struct ServedModel {
    pub engine: Box<dyn Engine>,
    pub codec: Codec,
}

/// Makes the OOM killer prefer this process (`oom_score_adj` in proc(5)): a worker is restarted, in
/// contrast to the queen, the hive and other processes.
fn prefer_for_oom_kill() {
    // The file exists on Linux only, and the worker does not depend on it.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
}

/// Runs a worker with an engine of this process until it exits. The binary calls it last.
///
/// Errors: as [`serve_model`].
pub fn serve(
    arguments: WorkerArguments,
    kind: WorkerKind,
    variables: Variables,
    load: impl FnOnce(ProgressCallback) -> Result<ServedModel, Diagnostic> + Send + 'static,
) -> Result<(), Diagnostic> {
    let runtime_config = RuntimeConfig {
        prefix_cache: !arguments.no_prefix_cache,
        ..RuntimeConfig::new(kind.model.clone(), kind.slots)
    };
    serve_model(arguments, kind, variables, move |progress| {
        let ServedModel { engine, codec } = load(progress)?;
        let runtime = Runtime::start(engine, Arc::new(codec), runtime_config)?;
        let description = runtime.description();
        tracing::info!(
            architecture = description.architecture,
            quantization = description.quantization,
            parameters = description.parameters,
            "loaded"
        );
        Ok(Arc::new(runtime))
    })
}

/// Runs a worker until it exits: reads the files of the tokens, listens, and calls `load`.
///
/// Errors: `CONFIG_INVALID` without the variables that name the files; `PORT_IN_USE`; those of
/// `load`; that with which the worker cannot continue.
pub fn serve_model(
    arguments: WorkerArguments,
    kind: WorkerKind,
    variables: Variables,
    load: impl FnOnce(ProgressCallback) -> Result<SharedService, Diagnostic> + Send + 'static,
) -> Result<(), Diagnostic> {
    init_logging(&arguments.log);
    prefer_for_oom_kill();
    let service = ServiceConfig {
        bind: SocketAddr::new(arguments.bind, arguments.port),
        queen_url: arguments.queen_url,
        worker_token: Arc::new(load_token(variables, WORKER_TOKEN_FILE_ENV)?),
        queen_token: load_token(variables, QUEEN_TOKEN_FILE_ENV)?,
    };
    let config = WorkerConfig {
        id: arguments.worker_id,
        generation: arguments.generation,
        hive_id: arguments.hive_id,
        model: kind.model,
        device: arguments.device,
        port: arguments.port,
        implementation: kind.implementation.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        slots: kind.slots,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(kind.http_threads)
        .enable_all()
        .build()
        .map_err(|e| errors::threads_not_started(&e))?;
    let result = runtime.block_on(worker_service::run(config, service, load));
    // It ends with the process. A blocked thread must not delay that, and a loader that still waits
    // for an engine would panic in a runtime that has ended.
    std::mem::forget(runtime);
    result
}

/// Loads the token from the file that an environment variable names.
fn load_token(read: Variables, variable: &str) -> Result<Token, Diagnostic> {
    let path = read(variable).filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| errors::variable_not_set(variable))?;
    Token::load(Path::new(&path))
}

/// Converts a result to an exit code. An error is written to the last line of standard error.
pub fn exit(result: Result<(), Diagnostic>) -> ExitCode {
    let Err(fatal) = result else {
        return diagnostics::ExitCode::Success.into();
    };
    let code = match fatal.code {
        Code::PortInUse => diagnostics::ExitCode::PortTaken,
        _ => diagnostics::ExitCode::Failure,
    };
    daemon_shell::report_fatal(fatal);
    code.into()
}
