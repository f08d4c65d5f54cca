//! Ports of one machine that are reachable from the other one.

use std::{path::Path, time::Duration};

use diagnostics::{Code, Diagnostic};
use node_link::{Exposed, OnQueen};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    SshSession, errors,
    options::{NO_HOST, through},
};

/// Time limit for ssh to add a forward.
const LIMIT: Duration = Duration::from_secs(10);

impl SshSession {
    /// Makes a port of the loopback interface of the other machine reachable through the Unix
    /// socket `socket`, until the connection ends.
    pub async fn forward_to_node(&self, socket: &Path, port: u16) -> Result<(), Diagnostic> {
        let forward = to_node(socket, port);
        self.forward("-L", &forward).await.map(drop)
    }

    /// Undoes [`forward_to_node`](Self::forward_to_node). Streams through the socket go on.
    pub(crate) async fn end_forward_to_node(&self, socket: &Path, port: u16) {
        let ended = self.control("cancel", "-L", &to_node(socket, port)).await;
        if let Err(error) = ended {
            tracing::warn!(%error, port, "a forward was not ended");
        }
    }

    /// Makes the server at `url`, such as `http://127.0.0.1:8500`, reachable from the other
    /// machine through a free port of its loopback interface, until the connection ends. Returns
    /// the port.
    pub async fn forward_from_node(&self, url: &str) -> Result<u16, Diagnostic> {
        let output = self.forward("-R", &from_node(0, url)).await?;
        let port = output.trim().parse();
        port.map_err(|_| errors::unexpected_output(self.label(), "a forward", &output))
    }

    /// Like [`forward_from_node`](Self::forward_from_node) through this port. Returns `false` if
    /// it is not free.
    pub async fn forward_port_from_node(&self, port: u16, url: &str) -> Result<bool, Diagnostic> {
        match self.forward("-R", &from_node(port, url)).await {
            Ok(_) => Ok(true),
            Err(error) if error.code == Code::NodeCommandFailed => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a server of this machine reachable from the other one, through a free port of its
    /// loopback interface, until the connection ends or the returned value is dropped.
    pub(crate) async fn expose(&self, server: &OnQueen) -> Result<Exposed, Diagnostic> {
        let target = match server {
            OnQueen::Port(port) => format!("127.0.0.1:{port}"),
            OnQueen::Socket(path) => path.display().to_string(),
        };
        let forward = from_node(0, &target);
        let output = self.forward("-R", &forward).await?;
        let port = output.trim().parse();
        let port =
            port.map_err(|_| errors::unexpected_output(self.label(), "a forward", &output))?;
        let (lost, closed) = (CancellationToken::new(), CancellationToken::new());
        let exposed = Exposed::new(port, lost.clone(), closed.clone().drop_guard());
        let session = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = session.closed() => lost.cancel(),
                () = closed.cancelled() => {
                    let cancelled = session.control("cancel", "-R", &forward).await;
                    if let Err(error) = cancelled {
                        tracing::debug!(%error, "cannot close a port of a node");
                    }
                }
            }
        });
        Ok(exposed)
    }

    async fn forward(&self, direction: &str, forward: &str) -> Result<String, Diagnostic> {
        self.control("forward", direction, forward).await
    }

    /// Sends a control command (`-O`, ssh(1)) about a forward; returns what it prints.
    async fn control(
        &self,
        action: &str,
        direction: &str,
        forward: &str,
    ) -> Result<String, Diagnostic> {
        let mut command = through(self.control_socket());
        command.args(["-O", action, direction, forward, NO_HOST]);
        let output = timeout(LIMIT, command.output())
            .await
            .map_err(|_| errors::command_timed_out(self.label(), "a forward", LIMIT))?
            .map_err(|e| errors::no_ssh(&e))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        if !self.control_socket().exists() {
            return Err(errors::lost(self.label(), &stderr));
        }
        Err(errors::forward_refused(self.label(), forward, &stderr))
    }
}

/// The path has no character that is special here: it is in the runtime directory.
fn to_node(socket: &Path, port: u16) -> String {
    format!("{}:127.0.0.1:{port}", socket.display())
}

fn from_node(port: u16, url: &str) -> String {
    let target = url.trim_start_matches("http://").trim_end_matches('/');
    format!("127.0.0.1:{port}:{target}")
}
