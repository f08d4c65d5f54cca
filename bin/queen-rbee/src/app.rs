use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use daemon_shell::Token;
use diagnostics::{Code, Diagnostic};
use hive_lifecycle::{HiveState, RunningHive, Supervisor};
use input_validation::{NodeName, WorkerId};
use jiff::Timestamp;
use rest_client::HttpClient;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock, dispatcher::Dispatcher, groups::Groups, metrics::Metrics, models::Models,
    store::StoreHandle,
};

/// What the parts of the queen share.
#[derive(Debug)]
pub struct App {
    /// The queen's own machine among the nodes.
    pub home_node: NodeName,
    /// Monotonic time.
    pub clock: Clock,
    /// Wall time of the start, for people.
    pub started_at: Timestamp,
    /// Requests and workers.
    pub dispatcher: Dispatcher,
    /// Requests with several answers.
    pub groups: Groups,
    /// Nodes and deployments.
    pub store: StoreHandle,
    /// What can be served.
    pub models: Models,
    /// The local hive; absent with `--no-local-hive`.
    pub hive: Option<LocalNode>,
    /// Secret between the queen, its hive and its workers.
    pub node_token: Arc<Token>,
    /// How long a worker may give nothing and finish no step.
    pub worker_silence: Duration,
    /// Connections to workers.
    pub http: HttpClient,
    /// Figures.
    pub metrics: Metrics,
    /// Set by the first who ends the queen.
    pub ending: AtomicBool,
    /// Cancelled when the queen has nothing left to do.
    pub stop: CancellationToken,
}

/// The hive of the queen's machine.
#[derive(Debug)]
pub struct LocalNode {
    /// Keeps it running.
    pub supervisor: Supervisor,
    /// How it is.
    pub state: watch::Receiver<HiveState>,
}

impl App {
    /// The hive, if it answers now.
    pub fn hive_now(&self) -> Result<RunningHive, Diagnostic> {
        match self.hive.as_ref().map(|node| node.state.borrow().clone()) {
            Some(HiveState::Up(hive)) => Ok(hive),
            Some(HiveState::Down(error)) => Err(error),
            Some(HiveState::Starting) => Err(Diagnostic::new(
                Code::HiveUnreachable,
                "the hive is still starting",
            )),
            None => Err(no_hive()),
        }
    }

    /// What a worker that nobody knows is answered with.
    pub fn worker_not_found(id: &WorkerId) -> Diagnostic {
        Diagnostic::new(Code::WorkerNotFound, format!("there is no worker {id}"))
            .hint("see `rbee-keeper worker list`")
    }
}

/// Why nothing can be spawned without a hive.
pub fn no_hive() -> Diagnostic {
    Diagnostic::new(
        Code::HiveUnreachable,
        "this queen was started without a local hive",
    )
    .hint("start it without `--no-local-hive`")
}
