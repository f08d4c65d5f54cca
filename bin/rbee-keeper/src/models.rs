use std::{pin::pin, time::Duration};

use diagnostics::{Diagnostic, Narration};
use futures_util::StreamExt as _;
use hive_contract::{
    AliasRequest, BackupRequest, JobAccepted, JobEvent, ModelQuery, PruneRequest, PullRequest,
    PullResponse, VerifyResponse,
};
use input_validation::{ModelRef, NodeName};
use queen_contract::QueenClient;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{
    errors,
    failure::{Failure, Interrupt},
    interrupt::Interrupts,
    model_cli::{Alias, Model, ModelArgs, NodeArg, Prune, Pull},
    render::{Screen, Transfer, models as text},
    target::Target,
};

/// Limit for the call that cancels a job; the hive waits 2 s for it to end.
const CANCEL_LIMIT: Duration = Duration::from_secs(3);

/// Runs `rbee-keeper pull`.
pub(crate) async fn pull(
    args: Pull,
    target: &Target,
    screen: &mut Screen,
    interrupts: &Interrupts,
) -> Result<(), Failure> {
    let (queen, _) = target.ensure_running().await?;
    let Pull {
        model: ModelArgs { model, node },
        revision,
    } = args;
    let request = PullRequest { model, revision };
    let pulled = fetch(&queen, node.node.as_ref(), &request, screen, interrupts).await?;
    screen.document(&pulled, || text::pulled(&pulled)).await
}

/// Fetches a model and shows how far it is. An interrupt cancels the job.
pub(crate) async fn fetch(
    queen: &QueenClient,
    node: Option<&NodeName>,
    request: &PullRequest,
    screen: &mut Screen,
    interrupts: &Interrupts,
) -> Result<PullResponse, Failure> {
    let job = interrupts
        .unless_interrupted(queen.pull_model(node, request))
        .await?;
    let cancelled = errors::pull_cancelled(&request.model);
    let result = follow(queen, node, &job, cancelled, screen, interrupts).await;
    if let Err(Failure::Failed(error)) = result {
        return Err(Failure::Failed(continued(error, &request.model)));
    }
    if matches!(result, Err(Failure::Interrupted(_))) {
        let note = Narration::info("keeper", "pull", errors::continue_pull(&request.model));
        // The interrupt is returned, whether or not this is printed.
        let _ = screen.narrate(&note).await;
    }
    result
}

/// Says how to continue a download whose failure names no remedy of its own, such as the loss of
/// the connection to the hive.
fn continued(error: Diagnostic, model: &ModelRef) -> Diagnostic {
    if error.hint.is_some() {
        return error;
    }
    error.hint(errors::continue_pull(model))
}

/// Follows a job to its result. An interrupt cancels it.
///
/// `cancelled` is the error if another one cancels it.
pub(crate) async fn follow<T: DeserializeOwned>(
    queen: &QueenClient,
    node: Option<&NodeName>,
    job: &JobAccepted,
    cancelled: Diagnostic,
    screen: &mut Screen,
    interrupts: &Interrupts,
) -> Result<T, Failure> {
    let mut transfer = Transfer::new(screen);
    let outcome = interrupts
        .unless_interrupted(async {
            let mut events = pin!(queen.catalog_job_events(node, &job.job_id).await?);
            while let Some(event) = events.next().await {
                match event? {
                    JobEvent::Narration(narration) => {
                        transfer.narrate(&narration, screen).await?;
                    }
                    JobEvent::Progress(progress) => transfer.progress(&progress, screen).await?,
                    JobEvent::Result(value) => {
                        let result = serde_json::from_value(value);
                        return Ok(result.map_err(|e| errors::unreadable_result(&e))?);
                    }
                    JobEvent::Error(error) => return Err(Failure::from(error)),
                    JobEvent::Cancelled {} => return Err(cancelled.into()),
                }
            }
            Err(errors::response_ended_early(queen.base()).into())
        })
        .await;
    let interrupt = match &outcome {
        Err(Failure::Interrupted(interrupt)) => Some(*interrupt),
        _ => None,
    };
    transfer.end(interrupt == Some(Interrupt::Int));
    if matches!(outcome, Err(Failure::Interrupted(_))) {
        let _ = timeout(CANCEL_LIMIT, queen.cancel_catalog_job(node, &job.job_id)).await;
    }
    outcome
}

/// Runs a subcommand of `rbee-keeper model`.
pub(crate) async fn run(
    command: Model,
    target: &Target,
    screen: &mut Screen,
    interrupts: &Interrupts,
) -> Result<(), Failure> {
    match command {
        Model::Pull(args) => pull(args, target, screen, interrupts).await,
        Model::Verify(ModelArgs { model, node }) => {
            let (queen, node) = (target.running().await?, node.node.as_ref());
            let query = ModelQuery { model };
            let job = queen.verify_model(node, &query).await?;
            let cancelled = errors::pull_cancelled(&query.model);
            let verified: VerifyResponse =
                follow(&queen, node, &job, cancelled, screen, interrupts).await?;
            screen
                .document(&verified, || text::verified(&verified))
                .await?;
            if verified.intact {
                return Ok(());
            }
            Err(errors::damaged_files(&verified.model).into())
        }
        Model::Update { model, apply } => update(model, apply, target, screen, interrupts).await,
        command => {
            interrupts
                .unless_interrupted(short(command, target, screen))
                .await
        }
    }
}

/// Runs the commands that ask or change the catalog at once.
async fn short(command: Model, target: &Target, screen: &mut Screen) -> Result<(), Failure> {
    let queen = target.running().await?;
    match command {
        Model::List { vendor } => {
            let mut list = queen.catalog().await?;
            if let Some(vendor) = vendor {
                let prefix = format!("{vendor}:");
                list.models
                    .retain(|entry| entry.model.model.to_string().starts_with(&prefix));
            }
            for notice in &list.notices {
                screen
                    .narrate(&Narration::warn("hive", "catalog", notice))
                    .await?;
            }
            screen
                .document(&list, || crate::render::text::models(&list.models))
                .await
        }
        Model::Show(ModelArgs { model, node }) => {
            let query = ModelQuery { model };
            let report = queen.show_model(node.node.as_ref(), &query).await?;
            screen.document(&report, || text::report(&report)).await
        }
        Model::Remove(ModelArgs { model, node }) => {
            let query = ModelQuery { model };
            let removed = queen.remove_model(node.node.as_ref(), &query).await?;
            screen.document(&removed, || text::removed(&removed)).await
        }
        Model::Prune(Prune {
            max_size,
            partial,
            dry_run,
            node,
        }) => {
            let request = PruneRequest {
                max_bytes: max_size,
                partial,
                dry_run,
            };
            let pruned = queen.prune_models(node.node.as_ref(), &request).await?;
            screen
                .document(&pruned, || text::pruned(&pruned, dry_run))
                .await
        }
        Model::Alias(args) => alias(args, &queen, screen).await,
        Model::Backup(copy) => {
            let request = copy_request(&copy.file)?;
            queen
                .back_up_catalog(copy.node.node.as_ref(), &request)
                .await?;
            screen
                .document(&request, || text::copied("wrote", &request.path))
                .await
        }
        Model::Restore(copy) => {
            let request = copy_request(&copy.file)?;
            queen
                .restore_catalog(copy.node.node.as_ref(), &request)
                .await?;
            screen
                .document(&request, || {
                    text::copied("restored the catalog from", &request.path)
                })
                .await
        }
        // Handled by `run`.
        Model::Pull(_) | Model::Verify(_) | Model::Update { .. } => Ok(()),
    }
}

fn copy_request(file: &std::path::Path) -> Result<BackupRequest, Failure> {
    let unusable = |e: std::io::Error| errors::unusable_model_path(&file.to_string_lossy(), &e);
    let path = std::path::absolute(file).map_err(unusable)?;
    Ok(BackupRequest {
        path: path.to_string_lossy().into_owned(),
    })
}

async fn alias(args: Alias, queen: &QueenClient, screen: &mut Screen) -> Result<(), Failure> {
    let Alias {
        name,
        model,
        remove,
        node: NodeArg { node },
    } = args;
    let Some(name) = name else {
        let list = queen.catalog().await?.aliases;
        return screen.document(&list, || text::aliases(&list)).await;
    };
    if model.is_none() && !remove {
        return Err(Failure::Usage(errors::no_alias_target()));
    }
    let request = AliasRequest { name, model };
    queen.set_alias(node.as_ref(), &request).await?;
    screen
        .document(&request, || text::alias_changed(&request))
        .await
}

async fn update(
    args: ModelArgs,
    apply: bool,
    target: &Target,
    screen: &mut Screen,
    interrupts: &Interrupts,
) -> Result<(), Failure> {
    let (queen, node) = (target.running().await?, args.node.node.as_ref());
    let query = ModelQuery { model: args.model };
    let difference = interrupts
        .unless_interrupted(queen.update_model(node, &query))
        .await?;
    if !apply || difference.current == difference.newest {
        return screen
            .document(&difference, || text::difference(&difference))
            .await;
    }
    let request = PullRequest {
        model: difference.model,
        revision: Some(difference.newest),
    };
    let pulled = fetch(&queen, node, &request, screen, interrupts).await?;
    screen.document(&pulled, || text::pulled(&pulled)).await
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    #[test]
    fn a_failed_download_says_how_to_continue_it() {
        let model = "hf:org/repo".parse().unwrap();
        let lost = Diagnostic::new(Code::HiveUnreachable, "the event stream failed");
        assert_eq!(
            continued(lost, &model).hint.unwrap(),
            "what was fetched is kept; `rbee-keeper pull hf:org/repo` continues it"
        );
        let full = Diagnostic::new(Code::DiskFull, "the disk is full").hint("free space");
        assert_eq!(continued(full, &model).hint.unwrap(), "free space");
    }
}
