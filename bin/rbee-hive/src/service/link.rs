use std::{net::Ipv4Addr, sync::Arc};

use axum::{extract::State, response::Response};
use daemon_shell::Upgrade;
use hive_contract::{LINK_PROTOCOL, WorkerState};
use hive_join::LocalServer;
use node_tunnel::OWN_PORT;

use super::{Hive, responses::LinkErrors};

/// Connect the queen of another machine to this node
///
/// The connection has the protocol `rbee-link` from then on: both sides open streams to ports of
/// the other one. Before, this side sends the port of its loopback interface that leads to the
/// queen, in two bytes. A connection replaces an earlier one.
#[utoipa::path(get, path = "/v1/link", tag = "node",
    responses((status = 101, description = "The connection has the protocol"), LinkErrors))]
pub async fn link(State(hive): State<Arc<Hive>>, upgrade: Upgrade) -> Response {
    upgrade.switch(LINK_PROTOCOL, move |connection| {
        tokio::spawn(async move {
            let reachable = Arc::clone(&hive);
            let local_server = move |port| local_server(port, Arc::clone(&reachable));
            if let Err(error) = hive.incoming.attach(connection, local_server).await {
                tracing::warn!(%error, "cannot use the connection of the queen");
            }
        });
    })
}

/// The queen reaches the hive and its workers, and nothing else on this machine.
pub async fn local_server(port: u16, hive: Arc<Hive>) -> LocalServer {
    if port == OWN_PORT {
        return Some(hive.address);
    }
    let workers = hive.workers.list().await.unwrap_or_default();
    let is_worker = workers
        .iter()
        .any(|worker| worker.port == port && worker.state == WorkerState::Running);
    is_worker.then(|| (Ipv4Addr::LOCALHOST, port).into())
}
