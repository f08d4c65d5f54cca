//! The engine: started or attached to, watched, and started again.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use diagnostics::Diagnostic;
use input_validation::ModelRef;
use rest_client::{CallError, HttpClient, RestClient};
use tokio::time::timeout;
use worker_contract::EngineKind;
use worker_service::ProgressCallback;

use crate::{
    client::{self, ApiKey},
    command::{Placeholders, substitute},
    errors,
    kind::health_path,
    process::EngineProcess,
};

/// Time without output after which a start has failed.
const NO_OUTPUT_LIMIT: Duration = Duration::from_secs(300);
/// Time between two questions whether the engine is ready.
const POLL: Duration = Duration::from_millis(100);
/// Time in which the exit of an engine is seen after its connections failed.
const DOUBT_LIMIT: Duration = Duration::from_secs(1);
/// Time between two questions whether an engine of another owner still responds.
const WATCH: Duration = Duration::from_secs(5);

/// Where the engine is.
#[derive(Debug, Clone)]
pub enum EngineSource {
    /// A command with placeholders, and the program that runs it as [`crate::guard_engine`] does.
    Command {
        launcher: String,
        command: Vec<String>,
    },
    /// The URL of a running engine.
    Attach(String),
}

/// What to run, and for which worker.
#[derive(Debug, Clone)]
pub struct AdapterSettings {
    pub kind: EngineKind,
    pub source: EngineSource,
    pub key: Option<ApiKey>,
    /// Path or name of the model, for the placeholder.
    pub model: String,
    /// Name of the model in requests to the engine.
    pub engine_model: String,
    /// Model reference that clients use.
    pub alias: ModelRef,
    pub context_length: Option<u32>,
    pub slots: u32,
    pub threads: usize,
}

/// An engine. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: AdapterSettings,
    /// URL of an engine of another owner.
    attached: Option<String>,
    http: HttpClient,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    process: Option<Arc<EngineProcess>>,
    /// Absent while the engine starts, and after it was lost.
    client: Option<RestClient>,
    /// A connection failed, and whether the engine was lost is not known yet.
    doubted: bool,
    ended: bool,
}

impl Engine {
    /// Creates an engine that is not started yet.
    ///
    /// Errors: `CONFIG_INVALID` for a URL or a command that cannot be used.
    pub fn new(settings: AdapterSettings) -> Result<Self, Diagnostic> {
        let attached = match &settings.source {
            EngineSource::Attach(url) => Some(client::checked_url(url, settings.key.is_some())?),
            EngineSource::Command { command, .. } => {
                substitute(command, placeholders(&settings, 0))?;
                None
            }
        };
        Ok(Self(Arc::new(Inner {
            http: client::http_client(attached.as_deref().unwrap_or_default())?,
            settings,
            attached,
            state: Mutex::default(),
        })))
    }

    pub(crate) fn settings(&self) -> &AdapterSettings {
        &self.0.settings
    }

    pub(crate) fn kind(&self) -> EngineKind {
        self.0.settings.kind
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the client of the running engine.
    ///
    /// Errors: `NOT_READY` while it starts again.
    pub(crate) fn client(&self) -> Result<RestClient, Diagnostic> {
        let state = self.state();
        let client = state.client.clone().filter(|_| !state.doubted);
        client.ok_or_else(errors::starting)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.client().is_ok()
    }

    fn is_ready_again(&self, client: RestClient) {
        let mut state = self.state();
        state.client = Some(client);
        state.doubted = false;
    }

    /// Starts the engine or finds it, and waits until it is ready.
    pub(crate) async fn start(&self, progress: ProgressCallback) -> Result<(), Diagnostic> {
        if let Some(url) = &self.0.attached {
            let client = self.client_at(url);
            self.until_attached(&client).await?;
            self.is_ready_again(client);
            return Ok(());
        }
        let EngineSource::Command { launcher, command } = &self.0.settings.source else {
            return Err(errors::no_command());
        };
        let port = free_port()?;
        let command = substitute(command, placeholders(&self.0.settings, port))?;
        let process = {
            let mut state = self.state();
            if state.ended {
                return Err(errors::starting());
            }
            let process = Arc::new(EngineProcess::start(launcher, &command)?);
            state.process = Some(process.clone());
            process
        };
        tracing::info!(port, command = ?command, "engine started");
        let client = self.client_at(&format!("http://127.0.0.1:{port}"));
        tokio::select! {
            error = process.exited() => return Err(error),
            ready = self.until_ready(&client, &process, progress) => ready?,
        }
        self.is_ready_again(client);
        Ok(())
    }

    /// Waits until the engine is lost. Returns the reason; the engine has no client then.
    pub(crate) async fn lost(&self) -> Diagnostic {
        let (process, client) = {
            let state = self.state();
            (state.process.clone(), state.client.clone())
        };
        let error = match (process, client) {
            (Some(process), _) => process.exited().await,
            (None, Some(client)) => self.until_silent(&client).await,
            (None, None) => errors::starting(),
        };
        self.state().client = None;
        error
    }

    /// Explains a lost connection: its cause is the exit of the process, which may be seen a
    /// moment later. Until that is known, and while the engine starts again, it accepts nothing.
    pub(crate) async fn explain(&self, error: Diagnostic) -> Diagnostic {
        let (process, client) = {
            let mut state = self.state();
            state.doubted = true;
            (state.process.clone(), state.client.clone())
        };
        let lost = match (process, client) {
            (Some(process), _) => timeout(DOUBT_LIMIT, process.exited()).await.ok(),
            (None, Some(client)) => match timeout(DOUBT_LIMIT, self.is_ready(&client)).await {
                Ok(Ok(()) | Err(CallError::Response(..))) => None,
                Ok(Err(CallError::Link(_))) | Err(_) => return error,
            },
            (None, None) => return error,
        };
        if lost.is_none() {
            self.state().doubted = false;
        }
        lost.unwrap_or(error)
    }

    /// Returns the resident memory of an engine that this process has started, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let process = self.state().process.clone();
        process.map_or(0, |process| process.memory_bytes())
    }

    /// Ends an engine that this process has started, and blocks until nothing of it is left.
    pub fn end(&self) {
        let process = {
            let mut state = self.state();
            state.ended = true;
            state.client = None;
            state.process.take()
        };
        if let Some(process) = process {
            process.end_now();
        }
    }

    fn client_at(&self, url: &str) -> RestClient {
        client::client(url, self.0.settings.key.as_ref(), self.0.http.clone())
    }

    async fn is_ready(&self, client: &RestClient) -> Result<(), CallError> {
        client.get_text(health_path(self.kind())).await.map(drop)
    }

    /// Waits while the engine loads its model. An engine that does not respond is an error.
    async fn until_attached(&self, client: &RestClient) -> Result<(), Diagnostic> {
        loop {
            match self.is_ready(client).await {
                Ok(()) => return Ok(()),
                Err(CallError::Response(503, error)) => {
                    tracing::info!(%error, "the engine is not ready");
                }
                Err(CallError::Response(_, error)) => return Err(error),
                Err(CallError::Link(error)) => {
                    return Err(errors::not_reachable(client.base(), error));
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn until_ready(
        &self,
        client: &RestClient,
        process: &EngineProcess,
        progress: ProgressCallback,
    ) -> Result<(), Diagnostic> {
        let (mut bytes, mut since) = (0, Instant::now());
        while self.is_ready(client).await.is_err() {
            let now = process.output_bytes();
            if now != bytes {
                (bytes, since) = (now, Instant::now());
                progress(bytes, 0);
            }
            if since.elapsed() > NO_OUTPUT_LIMIT {
                process.end();
                return Err(errors::no_progress(NO_OUTPUT_LIMIT, &process.tail()));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Returns when two questions in a row had no answer.
    async fn until_silent(&self, client: &RestClient) -> Diagnostic {
        let mut failed = false;
        loop {
            tokio::time::sleep(WATCH).await;
            match self.is_ready(client).await {
                Err(CallError::Link(error)) if failed => {
                    return errors::not_reachable(client.base(), error);
                }
                answer => {
                    failed = matches!(answer, Err(CallError::Link(_)));
                    if !failed {
                        self.state().doubted = false;
                    }
                }
            }
        }
    }

    /// Whether the engine belongs to another owner, who starts it again.
    pub(crate) fn is_attached(&self) -> bool {
        self.0.attached.is_some()
    }
}

fn placeholders(settings: &AdapterSettings, port: u16) -> Placeholders<'_> {
    Placeholders {
        model: &settings.model,
        port,
        context: settings.context_length.unwrap_or(0),
        slots: settings.slots,
        threads: settings.threads,
    }
}

/// Finds a port for the engine. Another process can take it before the engine binds it; the
/// engine exits then.
fn free_port() -> Result<u16, Diagnostic> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(errors::no_port)?;
    Ok(listener.local_addr().map_err(errors::no_port)?.port())
}
