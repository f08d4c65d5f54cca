use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use daemon_shell::Token;
use diagnostics::Diagnostic;
use queen_contract::QueenClient;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    errors,
    heartbeat::Heartbeats,
    model_service::SharedService,
    router::router,
    worker::{Worker, WorkerConfig},
};

/// Time for running requests to finish after `POST /v1/shutdown`.
const SHUTDOWN_DRAIN: Duration = Duration::from_secs(30);
/// Time for running requests to finish after SIGTERM. A hive sends SIGKILL after 10 s.
const SIGTERM_DRAIN: Duration = Duration::from_secs(5);
/// Time for aborted requests to end and for connections to send their last bytes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Configuration of a worker process, besides its identity.
pub struct ServiceConfig {
    /// Address to listen on; with port 0, any free port.
    pub bind: SocketAddr,
    pub queen_url: String,
    /// Token that callers must present.
    pub worker_token: Arc<Token>,
    /// Token to present to the queen.
    pub queen_token: Token,
}

/// Called by a loader with its progress: bytes done and bytes in total.
pub type ProgressCallback = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// Why the worker exits.
enum Exit {
    /// On request. Running requests may finish within this time.
    Requested(Duration),
    /// The worker cannot continue.
    Fatal(Diagnostic),
}

/// Runs a worker until it is asked to exit (`Ok`) or cannot continue (`Err`).
///
/// It listens at once and loads the model meanwhile. After `POST /v1/shutdown` running requests
/// may finish for 30 s, after SIGTERM for 5 s. SIGINT, or SIGTERM after either of the two, ends
/// them.
pub async fn run(
    mut config: WorkerConfig,
    service: ServiceConfig,
    load: impl FnOnce(ProgressCallback) -> Result<SharedService, Diagnostic> + Send + 'static,
) -> Result<(), Diagnostic> {
    let mut signals = Signals::new()?;
    let listener = daemon_shell::bind(service.bind).await?;
    config.port = daemon_shell::local_address(&listener)?.port();
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

    let exit = tokio::select! {
        biased;
        // First, so that a signal that follows the request ends the running requests.
        () = worker.shutdown().cancelled() => Exit::Requested(SHUTDOWN_DRAIN),
        exit = signals.first() => exit,
        error = load_and_serve(&worker, load) => Exit::Fatal(error),
        superseded = heartbeats.run() => Exit::Fatal(superseded),
    };
    let result = match exit {
        Exit::Requested(drain) => {
            tracing::info!(seconds = drain.as_secs(), "stopping");
            // Heartbeats continue while the worker drains.
            tokio::select! {
                () = finish_requests(&worker, drain, &mut signals) => {}
                superseded = heartbeats.run() => abort(&worker, &superseded).await,
            }
            Ok(())
        }
        Exit::Fatal(error) => {
            tracing::error!(%error, "the worker cannot continue");
            abort(&worker, &error).await;
            Err(error)
        }
    };
    worker.set_stopped();
    heartbeats.send_last().await;
    close(server, &stop).await;
    tracing::info!("stopped");
    result
}

/// Loads the model and serves requests. Returns the error if loading fails or the engine is
/// lost.
async fn load_and_serve(
    worker: &Worker,
    load: impl FnOnce(ProgressCallback) -> Result<SharedService, Diagnostic> + Send + 'static,
) -> Diagnostic {
    let service = match load_model(worker, load).await {
        Ok(service) => service,
        Err(error) => return error,
    };
    tracing::info!(context = service.context_length(), "ready");
    let mut changes = service.changes();
    worker.set_loaded(service.clone());
    loop {
        if let Some(failure) = service.failure() {
            return failure;
        }
        // The channel cannot close, because `service` holds the sender.
        let _ = changes.changed().await;
    }
}

/// Loads the model on a separate thread, because loading blocks and a worker that is stopped
/// meanwhile does not wait for it.
async fn load_model(
    worker: &Worker,
    load: impl FnOnce(ProgressCallback) -> Result<SharedService, Diagnostic> + Send + 'static,
) -> Result<SharedService, Diagnostic> {
    let (sender, receiver) = oneshot::channel();
    let progress: ProgressCallback = {
        let worker = worker.clone();
        Arc::new(move |done, total| worker.set_load_progress(done, total))
    };
    let handle = tokio::runtime::Handle::current();
    thread::Builder::new()
        .name("loader".into())
        .spawn(move || {
            // A loader may wait for another process.
            let _entered = handle.enter();
            // The receiver is gone if the worker was stopped meanwhile.
            let _ = sender.send(load(progress));
        })
        .map_err(errors::loader_not_started)?;
    receiver
        .await
        .unwrap_or_else(|_| Err(errors::loader_panicked()))
}

/// Drains and lets running requests finish within `limit`, or until a signal arrives.
async fn finish_requests(worker: &Worker, limit: Duration, signals: &mut Signals) {
    let Ok(service) = worker.service() else {
        return;
    };
    service.drain();
    tokio::select! {
        () = service.idle() => return,
        () = tokio::time::sleep(limit) => {}
        () = signals.next() => {}
    }
    abort(worker, &errors::worker_stopped()).await;
}

/// Ends running requests with an error.
async fn abort(worker: &Worker, error: &Diagnostic) {
    if let Ok(service) = worker.service() {
        service.abort(error.clone());
        // An engine that hangs in a step cannot end its requests; they end when the process
        // exits.
        let _ = timeout(CLOSE_TIMEOUT, service.idle()).await;
    }
}

async fn close(server: JoinHandle<()>, stop: &CancellationToken) {
    stop.cancel();
    match timeout(CLOSE_TIMEOUT, server).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the HTTP server failed"),
        Err(_) => tracing::warn!("open connections were closed"),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Diagnostic> {
        let listen = |kind| signal(kind).map_err(errors::no_signal_handler);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn first(&mut self) -> Exit {
        tokio::select! {
            _ = self.terminate.recv() => Exit::Requested(SIGTERM_DRAIN),
            _ = self.interrupt.recv() => Exit::Requested(Duration::ZERO),
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
