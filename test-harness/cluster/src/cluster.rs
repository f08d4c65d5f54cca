use std::{
    fs,
    path::{Path, PathBuf},
    pin::pin,
};

use anyhow::{Context as _, Result};
use daemon_shell::{Signal, Token};
use diagnostics::{Code, Diagnostic, Narration};
use futures_util::StreamExt as _;
use hive_contract::{JobEvent, PullRequest, PullResponse};
use input_validation::NodeName;
use queen_contract::{
    AddNode, DirectNode, NodeCallEvent, NodeSecret, NodeSpec, QueenClient, SshNode, UpdateNode,
};
use state_files::{DaemonRecord, Home};
use tokio::process::{Child, Command};

use crate::{
    HiveProcess, Machine,
    process::{self, Environment},
};

/// A queen with its own hive, the node `local`. Both are killed when it is dropped.
pub struct Cluster {
    /// A client with the control token.
    pub client: QueenClient,
    pub home: Home,
    /// Configuration of the queen's SSH client: the machines that were added.
    ssh_config: PathBuf,
    queen: Child,
}

impl Cluster {
    /// Starts the queen of `bin_dir` with its home in `directory`, which is created.
    pub async fn start(
        bin_dir: &Path,
        directory: &Path,
        environment: Environment<'_>,
    ) -> Result<Self> {
        Self::start_with(bin_dir, directory, environment, &[]).await
    }

    /// Like [`start`](Self::start), with more arguments of the queen.
    pub async fn start_with(
        bin_dir: &Path,
        directory: &Path,
        environment: Environment<'_>,
        arguments: &[&str],
    ) -> Result<Self> {
        fs::create_dir(directory)?;
        let home = Home::open(Some(directory.to_owned()))?;
        let ssh_config = directory.join("ssh_config");
        fs::write(&ssh_config, "")?;
        let mut command = Command::new(bin_dir.join("queen-rbee"));
        command.arg("--home").arg(home.path()).args(arguments);
        command.arg("--ssh-config").arg(&ssh_config);
        for option in ["--port", "--hive-port", "--worker-ports"] {
            command.args([option, "0"]);
        }
        let (log, record) = (home.queen_log(), home.queen_record());
        let (queen, record) = process::start(command, environment, &log, &record).await?;
        let token = Token::load(&home.queen_token())?;
        Ok(Self {
            client: QueenClient::new(&record.url, Some(token.expose().to_owned()))?,
            home,
            ssh_config,
            queen,
        })
    }

    /// Adds a machine as a node: the hive is installed on it and started.
    pub async fn add_machine(&self, machine: &Machine) -> Result<()> {
        let others = fs::read_to_string(&self.ssh_config)?;
        let config = machine.server.config_as(machine.name.as_str());
        fs::write(&self.ssh_config, others + &config)?;
        let spec = NodeSpec::Ssh(SshNode {
            host: machine.name.as_str().parse()?,
            port: None,
            user: None,
            key_file: None,
            directory: None,
            repository: None,
            branch: None,
        });
        let request = AddNode {
            name: machine.name.clone(),
            node: UpdateNode {
                spec,
                token: None,
                accept_host_key: None,
                install: true,
            },
        };
        followed(self.client.add_node(&request).await?).await
    }

    /// Process id of the queen.
    pub fn queen_pid(&self) -> Result<u32> {
        self.queen.id().context("the queen has exited")
    }

    /// Adds a hive as a node.
    pub async fn add(&self, hive: &HiveProcess) -> Result<()> {
        self.add_url(&hive.name, &hive.token, &hive.url).await
    }

    /// Adds the hive at a URL as a node.
    pub async fn add_url(&self, name: &NodeName, token: &Token, url: &str) -> Result<()> {
        let request = AddNode {
            name: name.clone(),
            node: node(token, url)?,
        };
        followed(self.client.add_node(&request).await?).await
    }

    /// Changes the URL under which the queen reaches a node.
    pub async fn move_to(&self, hive: &HiveProcess, url: &str) -> Result<()> {
        let request = node(&hive.token, url)?;
        followed(self.client.update_node(&hive.name, &request).await?).await
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

impl Drop for Cluster {
    fn drop(&mut self) {
        // The queen is killed by its handle afterwards, and does not start another hive.
        let queen = DaemonRecord::read_alive(&self.home.queen_record());
        let hive = DaemonRecord::read_alive(&self.home.hive_record());
        for record in [queen, hive].into_iter().flatten().flatten() {
            let _ = record.process.signal(Signal::Kill);
        }
    }
}

fn node(token: &Token, url: &str) -> Result<UpdateNode> {
    Ok(UpdateNode {
        spec: NodeSpec::Direct(DirectNode {
            url: url.parse()?,
            queen_url: None,
            certificate: None,
            allow_unencrypted: false,
        }),
        token: Some(NodeSecret(token.expose().to_owned())),
        accept_host_key: None,
        install: false,
    })
}

/// Waits for the result of a change of a node.
async fn followed(
    events: impl futures_util::Stream<Item = Result<NodeCallEvent, rest_client::CallError>>,
) -> Result<()> {
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        if let NodeCallEvent::Error(error) = event? {
            return Err(error.into());
        }
    }
    Ok(())
}
