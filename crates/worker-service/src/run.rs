use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use daemon_shell::Token;
use diagnostics::Diagnostic;
use inference_execution::{Engine, Runtime, RuntimeConfig};
use queen_contract::QueenClient;
use text_codec::Codec;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{Worker, WorkerConfig, heartbeat::Heartbeats, router};

/// How long running requests may go on after `POST /v1/shutdown`.
const SHUTDOWN_DRAIN: Duration = Duration::from_secs(30);
/// How long running requests may go on after SIGTERM.
const SIGTERM_DRAIN: Duration = Duration::from_secs(10);
/// How long connections may take to carry away their last bytes.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// What a worker process needs besides its identity.
pub struct ServiceConfig {
    /// Where it listens; port 0 takes any.
    pub bind: SocketAddr,
    /// Where heartbeats go.
    pub queen_url: String,
    /// Asked of callers.
    pub worker_token: Arc<Token>,
    /// Shown to the queen.
    pub queen_token: Token,
    /// How requests share the engine.
    pub runtime: RuntimeConfig,
}

/// A loaded model.
pub struct Loaded {
    /// What computes.
    pub engine: Box<dyn Engine>,
    /// Its text.
    pub codec: Codec,
}

/// Told by a loader how far it is: bytes done, bytes in all.
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// Why the worker ends.
enum End {
    /// Asked to; running requests may finish within this time.
    Asked(Duration),
    /// It cannot go on.
    Fatal(Diagnostic),
}

/// Runs a worker until it is asked to end (`Ok`) or cannot go on (`Err`).
///
/// It listens at once and loads meanwhile. `POST /v1/shutdown` and SIGTERM let running
/// requests finish for 30 and 10 s; SIGINT, or a second SIGTERM, ends them.
pub async fn run(
    mut config: WorkerConfig,
    service: ServiceConfig,
    load: impl FnOnce(Progress) -> Result<Loaded, Diagnostic> + Send + 'static,
) -> Result<(), Diagnostic> {
    let mut signals = Signals::new()?;
    let listener = daemon_shell::bind(service.bind).await?;
    config.port = listener
        .local_addr()
        .map_err(|e| Diagnostic::internal(format!("the listening address: {e}")))?
        .port();
    let queen_token = service.queen_token.expose().to_owned();
    let queen = QueenClient::new(&service.queen_url, Some(queen_token))?;
    tracing::info!(
        worker = %config.id, generation = %config.generation, port = config.port,
        model = %config.model, device = %config.device, "listening"
    );
    let worker = Worker::loading(config);
    let stop = CancellationToken::new();
    let routes = router(worker.clone(), service.worker_token);
    let server = tokio::spawn(daemon_shell::serve(listener, routes, stop.clone()));
    let mut heartbeats = Heartbeats::new(queen, worker.clone());

    let end = tokio::select! {
        end = life(&worker, service.runtime, load) => end,
        fenced = heartbeats.run() => End::Fatal(fenced),
        () = worker.shutdown().cancelled() => End::Asked(SHUTDOWN_DRAIN),
        end = signals.first() => end,
    };
    let result = match end {
        End::Asked(drain) => {
            tracing::info!(seconds = drain.as_secs(), "stopping");
            // The queen keeps hearing of a worker that drains.
            tokio::select! {
                () = finish(&worker, drain, &mut signals) => {}
                fenced = heartbeats.run() => abort(&worker, &fenced).await,
            }
            Ok(())
        }
        End::Fatal(error) => {
            tracing::error!(%error, "the worker cannot go on");
            abort(&worker, &error).await;
            Err(error)
        }
    };
    worker.stopped();
    heartbeats.farewell().await;
    close(server, &stop).await;
    tracing::info!("stopped");
    result
}

/// Loads the model and serves; returns when either fails.
async fn life(
    worker: &Worker,
    config: RuntimeConfig,
    load: impl FnOnce(Progress) -> Result<Loaded, Diagnostic> + Send + 'static,
) -> End {
    let runtime = match loaded(worker, load)
        .await
        .and_then(|Loaded { engine, codec }| Runtime::start(engine, Arc::new(codec), config))
    {
        Ok(runtime) => runtime,
        Err(error) => return End::Fatal(error),
    };
    let description = runtime.description();
    tracing::info!(
        architecture = description.architecture,
        quantization = description.quantization,
        parameters = description.parameters,
        context = runtime.context_length(),
        "ready"
    );
    let mut changes = runtime.changes();
    worker.loaded(runtime.clone());
    loop {
        if let Some(failure) = runtime.failure() {
            return End::Fatal(failure.clone());
        }
        // The runtime is held here, so its changes cannot end.
        let _ = changes.changed().await;
    }
}

/// Loads on a thread of its own: loading computes and reads, and a worker that is stopped
/// meanwhile does not wait for it.
async fn loaded(
    worker: &Worker,
    load: impl FnOnce(Progress) -> Result<Loaded, Diagnostic> + Send + 'static,
) -> Result<Loaded, Diagnostic> {
    let (sender, receiver) = oneshot::channel();
    let progress: Progress = {
        let worker = worker.clone();
        Arc::new(move |done, total| worker.progress(done, total))
    };
    thread::Builder::new()
        .name("loader".into())
        .spawn(move || {
            // Nobody waits for the model of a worker that was stopped.
            let _ = sender.send(load(progress));
        })
        .map_err(|e| Diagnostic::internal(format!("cannot start the loader's thread: {e}")))?;
    receiver
        .await
        .unwrap_or_else(|_| Err(Diagnostic::internal("the loader panicked")))
}

/// Lets running requests finish, within limits.
async fn finish(worker: &Worker, limit: Duration, signals: &mut Signals) {
    let Ok(runtime) = worker.runtime() else {
        return;
    };
    runtime.drain();
    tokio::select! {
        () = runtime.idle() => return,
        () = tokio::time::sleep(limit) => {}
        () = signals.next() => {}
    }
    let error = Diagnostic::new(diagnostics::Code::Draining, "the worker was stopped")
        .hint("send the request again; what was generated so far can be continued");
    abort(worker, &error).await;
}

/// Ends running requests with an error.
async fn abort(worker: &Worker, error: &Diagnostic) {
    if let Ok(runtime) = worker.runtime() {
        runtime.abort(error.clone());
        // An engine that hangs in a step cannot end its requests; the exit will.
        let _ = timeout(CLOSE_LIMIT, runtime.idle()).await;
    }
}

async fn close(server: JoinHandle<()>, stop: &CancellationToken) {
    stop.cancel();
    match timeout(CLOSE_LIMIT, server).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "while closing"),
        Err(_) => tracing::warn!("connections were cut"),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Diagnostic> {
        let listen = |kind| {
            signal(kind).map_err(|e| Diagnostic::internal(format!("cannot handle signals: {e}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn first(&mut self) -> End {
        tokio::select! {
            _ = self.terminate.recv() => End::Asked(SIGTERM_DRAIN),
            _ = self.interrupt.recv() => End::Asked(Duration::ZERO),
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
