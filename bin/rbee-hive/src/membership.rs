//! Which queen the hive belongs to.

use std::{future::pending, path::PathBuf, sync::Arc, time::Duration};

use daemon_shell::Token;
use diagnostics::{Code, Diagnostic};
use hive_contract::API_VERSION;
use hive_join::{Invitee, Uplink};
use input_validation::NodeName;
use state_files::Home;

use crate::{
    Args, Join,
    paths::absolute,
    service::{Hive, local_server},
};

/// Name and token of this machine's node.
pub(crate) struct Membership {
    pub(crate) node: NodeName,
    pub(crate) token: Token,
    pub(crate) token_file: PathBuf,
}

impl Membership {
    /// Those of the queen that the hive has joined, else those of the arguments.
    pub(crate) fn of(
        home: &Home,
        args: &Args,
        uplink: Option<&Uplink>,
    ) -> Result<Self, Diagnostic> {
        if let Some(uplink) = uplink {
            let node = uplink.node().clone();
            return match &args.hive_id {
                Some(other) if *other != node => Err(other_node(&node, other)),
                _ => Ok(Self {
                    node,
                    token: uplink.token().clone(),
                    token_file: uplink.token_file(),
                }),
            };
        }
        let node = args.hive_id.clone().unwrap_or_else(NodeName::local);
        let (token, token_file) = if let Some(file) = &args.token_file {
            (Token::load(file)?, absolute(file)?)
        } else {
            let file = home.node_token(&NodeName::local());
            (Token::load_or_create(&file)?, file)
        };
        Ok(Self {
            node,
            token,
            token_file,
        })
    }
}

/// Runs the first part of `rbee-hive join`.
pub(crate) async fn use_invitation(
    home: &Home,
    join: &Join,
    args: &Args,
) -> Result<(), Diagnostic> {
    if !args.bind.is_loopback() || args.token_file.is_some() {
        return Err(needs_no_address());
    }
    let invitee = Invitee {
        queen: join.queen.clone(),
        token_file: join.invitation.clone(),
        allow_unencrypted: join.allow_unencrypted,
        api_version: API_VERSION,
    };
    let record = hive_join::join(home, &invitee).await?;
    tracing::info!(node = %record.node, queen = %record.queen, "joined the queen");
    Ok(())
}

/// Runs `rbee-hive leave`.
pub(crate) fn leave(home: &Home) -> Result<(), Diagnostic> {
    if let Some(record) = hive_join::leave(home)? {
        let hint = format!("`rbee-keeper node remove {}`", record.node);
        tracing::info!(queen = %record.queen, hint, "this machine has left the queen");
    } else {
        tracing::info!("this machine had not joined a queen");
    }
    Ok(())
}

/// Keeps the connection to the queen up, if the hive has joined one. Returns only when the queen
/// refuses this node.
pub(crate) async fn stay_connected(uplink: Option<Uplink>, hive: Arc<Hive>) -> Diagnostic {
    let Some(uplink) = uplink else {
        return pending().await;
    };
    let reachable = Arc::clone(&hive);
    let local_server = move |port| local_server(port, Arc::clone(&reachable));
    let refusal = uplink.keep(API_VERSION, local_server).await;
    // Nobody can use them any more, and nobody else would stop them.
    if let Err(error) = hive.workers.stop_all(Some(Duration::ZERO)).await {
        tracing::warn!(%error, "a worker may keep running");
    }
    refusal
}

fn other_node(joined: &NodeName, other: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("this machine has joined a queen as {joined}, not as {other}"),
    )
    .hint("leave out `--hive-id`; `rbee-hive leave` forgets the queen")
}

fn needs_no_address() -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        "a hive that joins a queen listens on the loopback interface, with a token of the queen",
    )
    .hint("leave out `--bind` and the hive's own `--token-file`")
}
