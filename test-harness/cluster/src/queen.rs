use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use daemon_shell::Token;
use diagnostics::{Code, Diagnostic, Narration};
use futures_util::{StreamExt as _, future::BoxFuture};
use hive_contract::{HiveClient, HiveShutdownRequest, JobEvent, PullRequest, PullResponse};
use hive_lifecycle::{HiveHost, RunningHive};
use input_validation::NodeName;
use jiff::Timestamp;
use node_link::LocalLink;
use queen_api::{Api, ApiConfig, CorsOrigins};
use queen_contract::QueenClient;
use queen_dispatch::{Clock, Dispatcher};
use queen_nodes::{NodeConfig, NodeLimits, Nodes, QueenState, Shutdown};
use request_relay::Relay;
use scheduler::{Scheduler, SchedulerSettings};
use state_files::Home;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::HiveProcess;

/// Longest silence of a worker.
const SILENCE: Duration = Duration::from_secs(120);

/// A queen in this process. It stops when dropped.
pub struct Cluster {
    pub url: String,
    /// A client with the control token.
    pub client: QueenClient,
    nodes: Nodes,
    _stop: DropGuard,
}

impl Cluster {
    /// Starts a queen without nodes, with its state in `directory`.
    pub async fn start(directory: &Path) -> Result<Self> {
        let home = Home::open(Some(directory.to_owned()))?;
        let nodes = Nodes::new(QueenState::open(&home).await?, NodeLimits::default());
        let scheduler = Scheduler::new(SchedulerSettings::new(NodeName::local()));
        let dispatcher = Dispatcher::start(scheduler, Clock::start(), Arc::new(nodes.clone()));
        let relay = Relay::new(dispatcher.clone(), Arc::new(nodes.clone()), SILENCE);
        let shutdown = Arc::new(Shutdown::new(nodes.clone(), dispatcher.clone()));
        let api = Api::new(dispatcher, relay, nodes.clone(), shutdown, Timestamp::now());
        let control_token = Arc::new(Token::load_or_create(&home.queen_token())?);
        let config = ApiConfig {
            api_key: None,
            control_token: Arc::clone(&control_token),
            cors_origins: CorsOrigins::parse(Vec::new())?,
            loopback_only: true,
        };
        let router = queen_api::router(&Arc::new(api), config);
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = daemon_shell::bind(any_port).await?;
        let url = daemon_shell::local_url(daemon_shell::local_address(&listener)?);
        let stop = CancellationToken::new();
        tokio::spawn(daemon_shell::serve(listener, router, stop.clone()));
        let client = QueenClient::new(&url, Some(control_token.expose().to_owned()))?;
        Ok(Self {
            url,
            client,
            nodes,
            _stop: stop.drop_guard(),
        })
    }

    /// Adds a hive as a node, or replaces the node with its name.
    pub async fn add(&self, hive: &HiveProcess) -> Result<()> {
        self.add_at(hive, &hive.url).await
    }

    /// Adds a hive that the queen reaches at another URL than its own.
    pub async fn add_at(&self, hive: &HiveProcess, url: &str) -> Result<()> {
        let running = RunningHive {
            client: HiveClient::new(url, Some(hive.token.expose().to_owned()))?,
            process: hive.process,
        };
        let http = rest_client::http_client()?;
        self.nodes
            .add(NodeConfig {
                name: hive.name.clone(),
                link: Arc::new(LocalLink::new(http, self.url.clone())),
                token: Arc::clone(&hive.token),
                hive: Some(Arc::new(Started(running))),
            })
            .await?;
        self.nodes.settled(Duration::from_secs(10)).await;
        Ok(())
    }

    /// Fetches a model to a node. Returns the result and what was narrated before it.
    pub async fn pull(
        &self,
        node: &NodeName,
        request: &PullRequest,
    ) -> (Result<PullResponse, Diagnostic>, Vec<Narration>) {
        let mut narrated = Vec::new();
        let result = self.follow(node, request, &mut narrated).await;
        (result, narrated)
    }

    async fn follow(
        &self,
        node: &NodeName,
        request: &PullRequest,
        narrated: &mut Vec<Narration>,
    ) -> Result<PullResponse, Diagnostic> {
        let job = self.client.pull_model(Some(node), request).await?;
        let events = self.client.catalog_job_events(Some(node), &job.job_id);
        let mut events = pin!(events.await?);
        while let Some(event) = events.next().await {
            match event? {
                JobEvent::Narration(narration) => narrated.push(narration),
                JobEvent::Progress(_) => {}
                JobEvent::Result(value) => {
                    return serde_json::from_value(value).map_err(Diagnostic::internal);
                }
                JobEvent::Error(error) => return Err(error),
                JobEvent::Cancelled {} => {
                    return Err(Diagnostic::new(Code::Cancelled, "cancelled"));
                }
            }
        }
        Err(Diagnostic::internal("the events ended"))
    }
}

/// A hive that was started elsewhere, and is not started again.
#[derive(Debug)]
struct Started(RunningHive);

impl HiveHost for Started {
    fn ensure(&self) -> BoxFuture<'_, Result<RunningHive, Diagnostic>> {
        Box::pin(async {
            if self.0.process.is_alive() {
                return Ok(self.0.clone());
            }
            let message = "the hive has exited";
            Err(Diagnostic::new(Code::HiveUnreachable, message))
        })
    }

    fn lost<'a>(&'a self, hive: &'a RunningHive) -> BoxFuture<'a, ()> {
        Box::pin(hive.process.gone())
    }

    fn stop<'a>(
        &'a self,
        _: &'a RunningHive,
        _: &'a HiveShutdownRequest,
    ) -> BoxFuture<'a, Result<(), Diagnostic>> {
        Box::pin(async { Ok(()) })
    }
}
