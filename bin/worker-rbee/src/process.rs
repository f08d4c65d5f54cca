use std::{env, net::SocketAddr, path::Path, process::ExitCode, sync::Arc};

use daemon_shell::{Token, init_logging};
use diagnostics::{Code, Diagnostic};
use inference_execution::RuntimeConfig;
use input_validation::ModelRef;
use worker_contract::{QUEEN_TOKEN_FILE_ENV, WORKER_TOKEN_FILE_ENV};
use worker_service::{Loaded, Progress, ServiceConfig, WorkerConfig};

use crate::arguments::WorkerArguments;

/// Threads that serve HTTP; the engine has its own.
const HTTP_THREADS: usize = 2;

/// What one kind of worker decides.
pub(crate) struct Kind {
    /// The engine's name in `WorkerInfo`.
    pub implementation: &'static str,
    /// The model as clients name it.
    pub model: ModelRef,
    /// Requests that run at once.
    pub slots: u32,
}

/// When the kernel must kill for memory (oom_score_adj in proc(5)), it takes a worker, which is
/// started again, before the queen, the hive and what else runs on this machine.
fn be_first_when_memory_ends() {
    // Only Linux has the file; a worker without it serves as well.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
}

/// Runs the worker until it ends.
pub(crate) fn serve(
    arguments: WorkerArguments,
    kind: Kind,
    load: impl FnOnce(Progress) -> Result<Loaded, Diagnostic> + Send + 'static,
) -> Result<(), Diagnostic> {
    init_logging(&arguments.log);
    be_first_when_memory_ends();
    let service = ServiceConfig {
        bind: SocketAddr::new(arguments.bind, arguments.port),
        queen_url: arguments.queen_url,
        worker_token: Arc::new(token(WORKER_TOKEN_FILE_ENV)?),
        queen_token: token(QUEEN_TOKEN_FILE_ENV)?,
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
        .map_err(|e| Diagnostic::internal(format!("cannot start threads: {e}")))?;
    let result = runtime.block_on(worker_service::run(config, service, load));
    // What still blocks a thread must not keep the process.
    runtime.shutdown_background();
    result
}

/// A token from the file that the environment names.
fn token(variable: &str) -> Result<Token, Diagnostic> {
    let path = env::var_os(variable).filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| {
        Diagnostic::new(Code::ConfigInvalid, format!("{variable} is not set"))
            .hint("let it name the file that holds the token")
    })?;
    Token::load(Path::new(&path))
}

/// The exit code of a result; an error is told in the last line of standard error.
pub(crate) fn exit(result: Result<(), Diagnostic>) -> ExitCode {
    let Err(fatal) = result else {
        return diagnostics::ExitCode::Success.into();
    };
    let code = match fatal.code {
        Code::PortInUse => diagnostics::ExitCode::PortTaken,
        _ => diagnostics::ExitCode::Failure,
    };
    daemon_shell::tell_failure(fatal);
    code.into()
}
