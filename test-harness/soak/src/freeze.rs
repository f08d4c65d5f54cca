//! A machine that freezes under load.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::{
    fleet::Fleet,
    load::{End, Load, PINNED_CLIENTS},
};

/// What a run measured.
#[derive(Debug, Default)]
pub struct Report {
    pub sent: usize,
    /// Requests that more than one worker worked on.
    pub moved: usize,
    /// The longest time from the moment when the machine froze to the end of a request that any
    /// node may serve, of those that were running or sent at this moment or later.
    pub longest: Duration,
    /// The time from that moment until no further request was assigned to the machine.
    pub avoided_after: Duration,
}

/// Freezes hive, worker and SSH server of a machine, and continues them later. `arguments` are
/// those of the queen.
///
/// Fails if a request does not end, if one that any node may serve fails or has not its complete
/// text, if new requests are not served by the other machine, or if the machine does not return.
pub async fn run(bin_dir: &Path, arguments: &[&str]) -> Result<Report> {
    let fleet = Fleet::start(bin_dir, arguments).await?;
    let client = &fleet.cluster.client;
    let load = Load::start(client, &fleet.model, &fleet.attic.name);
    load.until("requests are served by the machine", |ended| {
        ended.pinned_complete >= 4 && ended.free_complete >= 4
    })
    .await?;
    let frozen_at = Instant::now();
    fleet.attic.server.freeze_machine();
    let frozen = load.ended();
    load.until(
        "requests for this machine fail, and others are served",
        |ended| {
            ended.pinned_failed >= frozen.pinned_failed + u64::from(PINNED_CLIENTS)
                && ended.free_complete >= frozen.free_complete + 20
        },
    )
    .await?;
    fleet.attic.server.thaw_machine();
    let continued_at = Instant::now();
    let thawed = load.ended();
    load.until("the machine serves again", |ended| {
        ended.pinned_complete >= thawed.pinned_complete + 4
    })
    .await?;

    let mut report = Report::default();
    for outcome in load.finish().await? {
        report.sent += 1;
        report.moved += usize::from(outcome.workers.len() > 1);
        let ended_at = outcome.started + outcome.took;
        match &outcome.end {
            End::Complete(text) => ensure!(*text == fleet.text, "another text: {outcome:?}"),
            End::Failed(error) => {
                ensure!(
                    outcome.node.is_some(),
                    "another node could serve it: {outcome:?}"
                );
                let names_node = error
                    .message
                    .contains(&format!("node {}", fleet.attic.name));
                ensure!(names_node, "the node is not named: {outcome:?}");
            }
            End::Broken(_) | End::Unended => ensure!(false, "{outcome:?}"),
        }
        if outcome.node.is_none() && ended_at > frozen_at {
            let since_start = outcome.started.max(frozen_at);
            report.longest = report.longest.max(ended_at - since_start);
            let used_attic = outcome.workers.iter().any(|w| w.node == fleet.attic.name);
            if used_attic && outcome.started > frozen_at && outcome.started < continued_at {
                let after = outcome.started - frozen_at;
                report.avoided_after = report.avoided_after.max(after);
            }
        }
    }
    ensure!(
        report.moved > 0,
        "no request ran on the machine when it froze"
    );
    Ok(report)
}
