//! Losses of a link, and its return, under load.

use std::{fmt, path::Path, time::Duration};

use anyhow::{Result, ensure};
use ssh_server::Mode;

use crate::{
    census::Census,
    fleet::Fleet,
    load::{End, Load, Outcome},
};

/// What a run counted. Some of the requests require the node whose link is lost.
#[derive(Debug, Default)]
pub struct Report {
    pub cycles: u32,
    pub sent: usize,
    pub complete: usize,
    /// Completed requests that more than one worker worked on.
    pub moved: usize,
    /// Requests that failed with an error that names the node.
    pub failed: usize,
    /// Requests that ended as none should.
    pub wrong: Vec<String>,
    pub longest: Duration,
    before: Census,
    after: Census,
}

/// Loses the link of a node `cycles` times. Every second time it returns at once, else after
/// requests have failed because of it.
///
/// Fails if a request does not end, ends without its complete text or with an error that does not
/// name the node, if a request that any node may serve fails, or if something is left behind.
pub async fn run(bin_dir: &Path, cycles: u32) -> Result<Report> {
    let fleet = Fleet::start(bin_dir, &[]).await?;
    let machines = [&fleet.attic, &fleet.cellar];
    // Connections that the load needs are open before anything is counted.
    let warm = start(&fleet);
    warm.until("the load runs", |ended| {
        ended.pinned_complete.min(ended.free_complete) >= 20
    })
    .await?;
    let mut warmed = Report::default();
    check(&fleet, &warm.finish().await?, &mut warmed);
    ensure!(warmed.wrong.is_empty(), "before any loss: {warmed}");
    let before = Census::take(&fleet.cluster, &machines)?;

    let load = start(&fleet);
    for cycle in 0..cycles {
        let begun = load.ended();
        load.until("requests are served through the link", |ended| {
            ended.pinned_complete >= begun.pinned_complete + 4
        })
        .await?;
        let server = &fleet.attic.server;
        if cycle % 2 == 0 {
            server.set_mode(Mode::Refuse);
            server.cut();
            let lost = load.ended();
            load.until("the loss is noticed, and others are served", |ended| {
                ended.pinned_failed >= lost.pinned_failed + 2
                    && ended.free_complete >= lost.free_complete + 4
            })
            .await?;
            server.set_mode(Mode::Serve);
        } else {
            server.cut();
        }
    }
    let lost = load.ended();
    load.until("the link has returned", |ended| {
        ended.pinned_complete >= lost.pinned_complete + 4
    })
    .await?;
    let mut report = Report {
        cycles,
        ..Report::default()
    };
    check(&fleet, &load.finish().await?, &mut report);
    report.after = Census::settle(&before, &fleet.cluster, &machines).await?;
    report.before = before;
    ensure!(report.wrong.is_empty(), "{report}");
    Ok(report)
}

fn start(fleet: &Fleet) -> Load {
    let client = &fleet.cluster.client;
    Load::start(client, &fleet.model, &fleet.attic.name)
}

fn check(fleet: &Fleet, outcomes: &[Outcome], report: &mut Report) {
    for outcome in outcomes {
        report.sent += 1;
        report.longest = report.longest.max(outcome.took);
        let wrong = match &outcome.end {
            End::Complete(text) if *text == fleet.text => {
                report.complete += 1;
                report.moved += usize::from(outcome.workers.len() > 1);
                continue;
            }
            End::Complete(_) => "another text",
            End::Failed(_) if outcome.node.is_none() => "another node could serve it",
            End::Failed(error) if fleet.is_named_in(error) => {
                report.failed += 1;
                continue;
            }
            End::Failed(_) => "the node is not named",
            End::Broken(_) => "no proper end",
            End::Unended => "no end",
        };
        report.wrong.push(format!("{wrong}: {outcome:?}"));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cycles, sent, .. } = self;
        writeln!(f, "{cycles} losses of the link, {sent} requests:")?;
        writeln!(
            f,
            "  {} complete, {} of them on more than one worker",
            self.complete, self.moved
        )?;
        writeln!(
            f,
            "  {} failed, and their error names the node",
            self.failed
        )?;
        writeln!(f, "  the longest took {:.1} s", self.longest.as_secs_f64())?;
        for (when, census) in [("before", &self.before), ("after", &self.after)] {
            writeln!(
                f,
                "  {when}: {} files of sockets, {} forwards from nodes; processes {:?}; descriptors {:?}",
                census.files.len(),
                census.forwards,
                census.processes,
                census.descriptors
            )?;
        }
        for wrong in &self.wrong {
            writeln!(f, "  {wrong}")?;
        }
        Ok(())
    }
}
