use diagnostics::Diagnostic;
use hive_lifecycle::HiveState;
use input_validation::NodeName;
use jiff::Timestamp;
use queen_contract::{NodeEntry, NodeStatus};
use queen_store::NodeRow;
use tokio::sync::watch;

use crate::store::StoreHandle;

/// Writes down how the local node is, whenever that changes; ends with the supervisor.
pub async fn keep(node: NodeName, mut state: watch::Receiver<HiveState>, store: StoreHandle) {
    loop {
        let now = state.borrow_and_update().clone();
        if let Err(error) = write_down(&node, now, &store).await {
            tracing::warn!(%error, "the node's state is not written down");
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

async fn write_down(
    node: &NodeName,
    state: HiveState,
    store: &StoreHandle,
) -> Result<(), Diagnostic> {
    let node = node.clone();
    let before = {
        let node = node.clone();
        store
            .call(move |store| Ok(store.nodes()?.into_iter().find(|row| row.name == node)))
            .await?
    };
    let mut row = before.unwrap_or(NodeRow {
        name: node,
        hive_url: None,
        devices: Vec::new(),
        status: NodeStatus::Unknown,
        last_connected: None,
        last_error: None,
    });
    match state {
        HiveState::Starting => row.status = NodeStatus::Unknown,
        HiveState::Up(hive) => {
            row.hive_url = Some(hive.client.base().to_owned());
            row.last_connected = Some(Timestamp::now());
            row.status = NodeStatus::Reachable;
            row.last_error = None;
            match hive.client.capabilities().await {
                Ok(capabilities) => row.devices = capabilities.devices,
                Err(error) => row.last_error = Some(error.to_string()),
            }
        }
        HiveState::Down(error) => {
            row.status = NodeStatus::Unreachable;
            row.last_error = Some(error.message);
        }
    }
    store.call(move |store| store.save_node(&row)).await
}

/// The nodes as clients see them.
pub async fn list(store: &StoreHandle) -> Result<Vec<NodeEntry>, Diagnostic> {
    let rows = store.call(|store| store.nodes()).await?;
    Ok(rows
        .into_iter()
        .map(|row| NodeEntry {
            name: row.name,
            hive_url: row.hive_url,
            status: row.status,
            devices: row.devices,
            last_connected: row.last_connected,
            last_error: row.last_error,
        })
        .collect())
}
