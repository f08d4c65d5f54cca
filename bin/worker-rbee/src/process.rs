use std::{env, net::SocketAddr, path::Path, process::ExitCode, sync::Arc};

use daemon_shell::{Token, init_logging};
use diagnostics::{Code, Diagnostic};
use inference_execution::RuntimeConfig;
use input_validation::ModelRef;
use worker_contract::{QUEEN_TOKEN_FILE_ENV, WORKER_TOKEN_FILE_ENV};
use worker_service::{ProgressCallback, ServedModel, ServiceConfig, WorkerConfig};

use crate::{arguments::WorkerArguments, errors};

/// Number of threads that serve HTTP. The engine has its own threads.
const HTTP_THREADS: usize = 2;

/// Properties that depend on the kind of worker.
pub(crate) struct WorkerKind {
    /// Name of the engine in `WorkerInfo`.
    pub implementation: &'static str,
    /// Model reference that clients use.
    pub model: ModelRef,
    /// Maximum number of running requests.
    pub slots: u32,
}

/// Makes the OOM killer prefer this process (`oom_score_adj` in proc(5)): a worker is restarted, in
/// contrast to the queen, the hive and other processes.
fn prefer_for_oom_kill() {
    // The file exists on Linux only, and the worker does not depend on it.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
}

/// Runs the worker until it exits.
pub(crate) fn serve(
    arguments: WorkerArguments,
    kind: WorkerKind,
    load: impl FnOnce(ProgressCallback) -> Result<ServedModel, Diagnostic> + Send + 'static,
) -> Result<(), Diagnostic> {
    init_logging(&arguments.log);
    prefer_for_oom_kill();
    let service = ServiceConfig {
        bind: SocketAddr::new(arguments.bind, arguments.port),
        queen_url: arguments.queen_url,
        worker_token: Arc::new(load_token(WORKER_TOKEN_FILE_ENV)?),
        queen_token: load_token(QUEEN_TOKEN_FILE_ENV)?,
        runtime: RuntimeConfig {
            prefix_cache: !arguments.no_prefix_cache,
            ..RuntimeConfig::new(kind.model.clone(), kind.slots)
        },
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
        .worker_threads(HTTP_THREADS)
        .enable_all()
        .build()
        .map_err(|e| errors::threads_not_started(&e))?;
    let result = runtime.block_on(worker_service::run(config, service, load));
    // A blocked thread must not delay the exit.
    runtime.shutdown_background();
    result
}

/// Loads the token from the file that an environment variable names.
fn load_token(variable: &str) -> Result<Token, Diagnostic> {
    let path = env::var_os(variable).filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| errors::variable_not_set(variable))?;
    Token::load(Path::new(&path))
}

/// Converts a result to an exit code. An error is written to the last line of standard error.
pub(crate) fn exit(result: Result<(), Diagnostic>) -> ExitCode {
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
