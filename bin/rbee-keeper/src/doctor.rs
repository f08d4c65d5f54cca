use clap::Args;
use hive_contract::{PreflightCheck, PreflightRequest, Verdict};
use input_validation::{Backend, DeviceId, ModelRef, NodeName, whole_number};
use preflight_validation::{Finding, check_queen, check_queen_responds};
use queen_contract::{NodePreflight, PreflightCall, QueenClient};
use serde::Serialize;

use crate::{
    cli::Global,
    failure::Failure,
    model,
    render::{Screen, doctor as text},
    target::{self, Target},
    values::{parse, with_hint},
};

const EXAMPLES: &str = "\
Examples:
  rbee-keeper doctor
  rbee-keeper doctor --model hf:org/repo:Q4_K_M --backend cuda --context 8192 --slots 4

If no queen is running and one can be started, this command starts it. The exit code is 1 if a \
check fails, and 0 if all pass, with or without warnings.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Doctor {
    /// Check this node only [default: all nodes]
    #[arg(long, value_name = "NAME", value_parser = parse::<NodeName>)]
    pub(crate) node: Option<NodeName>,
    /// Check whether this model can be served
    #[arg(long, short, value_name = "MODEL", value_parser = |text: &str| model::parse(text).map_err(with_hint))]
    pub(crate) model: Option<ModelRef>,
    /// Check a device of this backend: cpu, cuda or metal [default: cpu]
    #[arg(long, value_name = "BACKEND", value_parser = parse::<Backend>)]
    pub(crate) backend: Option<Backend>,
    /// Check this device, for example GPU-1
    #[arg(long, value_name = "DEVICE", value_parser = parse::<DeviceId>)]
    pub(crate) device: Option<DeviceId>,
    /// Check whether a context of this many tokens fits [default: any context]
    #[arg(long, value_name = "TOKENS", requires = "model", value_parser = whole_number(1..=u32::MAX))]
    pub(crate) context: Option<u32>,
    /// Check whether this many contexts fit at the same time
    #[arg(long, value_name = "N", requires = "model", value_parser = whole_number(1..=1024_u32))]
    pub(crate) slots: Option<u32>,
}

/// Result of `rbee-keeper doctor`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    /// The worst verdict of all checks.
    pub(crate) verdict: Verdict,
    /// Checks of the queen and its machine.
    pub(crate) queen: Vec<PreflightCheck>,
    /// Checks of each node; empty if the queen does not respond.
    pub(crate) nodes: Vec<NodePreflight>,
}

impl Report {
    pub(crate) fn new(queen: Vec<PreflightCheck>, nodes: Vec<NodePreflight>) -> Self {
        let all = queen.iter().chain(nodes.iter().flat_map(|n| &n.checks));
        Self {
            verdict: all
                .map(|check| check.verdict)
                .max()
                .unwrap_or(Verdict::Pass),
            queen,
            nodes,
        }
    }
}

/// Runs `rbee-keeper doctor`.
pub(crate) async fn run(args: Doctor, global: &Global, screen: &mut Screen) -> Result<(), Failure> {
    let report = examine(args, global).await?;
    screen.document(&report, || text::report(&report)).await?;
    match report.verdict {
        Verdict::Fail => Err(Failure::Reported),
        Verdict::Pass | Verdict::Skipped | Verdict::Warn => Ok(()),
    }
}

async fn examine(args: Doctor, global: &Global) -> Result<Report, Failure> {
    let mut checks = Vec::new();
    if global.queen.is_none() {
        let launch = target::launch(global)?;
        let probe = queen_lifecycle::probe(global.home.clone(), &launch).await;
        checks = check_queen(&probe);
    }
    let can_start = checks.iter().all(|check| check.verdict != Verdict::Fail);
    let (responds, queen) = reach(can_start, global).await?;
    checks.push(check_queen_responds(&responds));
    let Some(queen) = queen else {
        return Ok(Report::new(checks, Vec::new()));
    };
    let call = PreflightCall {
        node: args.node,
        worker: PreflightRequest {
            model: args.model,
            device: args.device,
            backend: args.backend,
            context_length: args.context,
            slots: args.slots,
        },
    };
    let nodes = queen.preflight(&call).await?.nodes;
    Ok(Report::new(checks, nodes))
}

/// Calls the queen, or starts one if none is running and nothing speaks against it. An invalid
/// option is a failure of the command.
async fn reach(
    can_start: bool,
    global: &Global,
) -> Result<(Finding<String>, Option<QueenClient>), Failure> {
    let target = match Target::select(global) {
        Ok(target) => target,
        // The check of the home has the reason.
        Err(Failure::Failed(_)) if !can_start => return Ok((Finding::Unknown, None)),
        Err(failure) => return Err(failure),
    };
    let reached = if can_start {
        target.ensure_running().await.map(|(queen, _)| queen)
    } else {
        target.running().await
    };
    Ok(match reached {
        Ok(queen) => (Finding::Met(queen.base().to_owned()), Some(queen)),
        Err(_) if !can_start => (Finding::Unknown, None),
        Err(error) => (Finding::NotMet(error), None),
    })
}
