use hive_contract::{PreflightRequest, Verdict};
use preflight_validation::{Finding, check_queen, check_queen_responds};
use queen_contract::{PreflightCall, QueenClient};

use crate::{
    cli::Global,
    doctor_cli::Doctor,
    failure::Failure,
    render::{
        Screen,
        doctor::{self as text, Report},
    },
    target::{self, Target},
};

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
            engine: args.engine,
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
