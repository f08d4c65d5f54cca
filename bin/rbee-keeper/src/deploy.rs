use std::{io, path::Path, time::Duration};

use diagnostics::{Diagnostic, Narration, excerpt};
use hive_contract::PullRequest;
use input_validation::{EngineName, ModelRef, NodeName};
use queen_contract::{
    DeployCall, Deployment, DeploymentList, DeploymentSpec, DeploymentState, QueenClient,
    UndeployCall,
};
use serde::Deserialize;
use tokio::{fs::File, io::AsyncReadExt as _, time::sleep};

use crate::{
    deploy_cli::{Deploy, Undeploy},
    errors,
    failure::Failure,
    infer::can_be_fetched,
    interrupt::Interrupts,
    models,
    render::{Screen, deployments as text, table::wire_name},
    target::Target,
};

/// How often the state of new deployments is read.
const POLL: Duration = Duration::from_millis(500);
/// Largest file that describes deployments.
const FILE_LIMIT: u64 = 4 << 20;

/// A file that describes deployments.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeployFile {
    #[serde(default)]
    deployment: Vec<DeploymentSpec>,
}

/// Runs `rbee-keeper deploy`.
pub(crate) async fn deploy(
    args: Deploy,
    target: &Target,
    screen: &mut Screen,
    interrupts: &Interrupts,
) -> Result<(), Failure> {
    if args.only && args.file.is_none() {
        return Err(errors::only_without_file().into());
    }
    let deployments = match (args.model, &args.file) {
        (_, Some(file)) => interrupts.unless_interrupted(read(file)).await?,
        (Some(model), None) => vec![args.values.of(model)],
        (None, None) => Vec::new(),
    };
    let (queen, _) = target.ensure_running().await?;
    let call = DeployCall {
        deployments,
        only: args.only,
    };
    let list = put(&queen, &call, screen, interrupts).await?;
    for (model, engine, node) in chosen_engines(&call, &list) {
        let message = format!("{model}: its worker on {node} runs the engine {engine}");
        screen
            .narrate(&Narration::info("keeper", "deploy", message))
            .await?;
    }
    let deployments = list.deployments.iter();
    let models: Vec<ModelRef> = deployments
        .map(|deployment| deployment.model.clone())
        .collect();
    if args.no_wait {
        return screen
            .document(&list, || text::list(&list.deployments))
            .await;
    }
    let waited = interrupts.unless_interrupted(wait(&queen, &models, screen));
    let waited = waited.await;
    if let Err(Failure::Interrupted(_)) = &waited {
        let message = "the deployment stays; `rbee-keeper undeploy` ends it";
        // The interrupt is returned, whether or not this is printed.
        let _ = screen
            .narrate(&Narration::info("keeper", "interrupt", message))
            .await;
    }
    let mut list = waited?;
    list.deployments
        .retain(|deployment| models.contains(&deployment.model));
    screen
        .document(&list, || text::list(&list.deployments))
        .await
}

/// The split models of which the user named no engine, with the engine and the node of the worker.
fn chosen_engines<'a>(
    call: &'a DeployCall,
    list: &'a DeploymentList,
) -> impl Iterator<Item = (&'a ModelRef, &'a EngineName, &'a NodeName)> {
    list.deployments.iter().filter_map(|deployment| {
        let wanted = deployment.wanted.as_ref()?;
        let mut asked = call.deployments.iter();
        let is_named = asked.any(|spec| spec.model == wanted.model && spec.engine.is_some());
        let node = wanted.split.first().filter(|_| !is_named)?;
        Some((&deployment.model, wanted.engine.as_ref()?, node))
    })
}

/// Stores the deployments. Models that the queen would have to fetch are fetched first.
async fn put(
    queen: &QueenClient,
    call: &DeployCall,
    screen: &mut Screen,
    interrupts: &Interrupts,
) -> Result<DeploymentList, Failure> {
    let mut fetched = 0;
    loop {
        let result = interrupts.unless_interrupted(queen.deploy(call)).await;
        let error = match result {
            Err(Failure::Failed(error)) if fetched < call.deployments.len() => error,
            result => return result,
        };
        let mut models = call.deployments.iter().map(|spec| &spec.model);
        let missing = models.find(|model| can_be_fetched(&error) && names(&error, model));
        let Some(model) = missing.cloned() else {
            return Err(error.into());
        };
        fetched += 1;
        let request = PullRequest {
            model,
            revision: None,
        };
        models::fetch(queen, None, &request, screen, interrupts).await?;
    }
}

/// Whether the error is about this model.
fn names(error: &Diagnostic, model: &ModelRef) -> bool {
    let details = error.details.as_ref();
    let named = details.and_then(|details| details.get("model"));
    named.is_some_and(|named| *named == model.to_string())
}

/// Waits until the deployments have the workers that they want, and fails if one cannot have them.
async fn wait(
    queen: &QueenClient,
    models: &[ModelRef],
    screen: &mut Screen,
) -> Result<DeploymentList, Failure> {
    let mut shown: Vec<(ModelRef, String)> = Vec::new();
    loop {
        let list = queen.deployments().await?;
        let mine = || {
            let deployments = list.deployments.iter();
            deployments.filter(|deployment| models.contains(&deployment.model))
        };
        for deployment in mine() {
            let line = text::progress(deployment);
            let known = (deployment.model.clone(), line.clone());
            if !shown.contains(&known) {
                shown.retain(|(model, _)| *model != deployment.model);
                shown.push(known);
                screen
                    .narrate(&Narration::info("keeper", "deploy", line))
                    .await?;
            }
        }
        let failed = mine().find(|deployment| has_failed(deployment));
        if let Some(deployment) = failed {
            return Err(errors::not_deployed(
                &deployment.model,
                &wire_name(&deployment.state),
                deployment.last_error.as_deref().unwrap_or_default(),
            )
            .into());
        }
        let is_complete = |deployment: &Deployment| {
            matches!(
                deployment.state,
                DeploymentState::Ready | DeploymentState::Idle
            )
        };
        if mine().all(is_complete) {
            return Ok(list);
        }
        sleep(POLL).await;
    }
}

/// Whether nothing more happens until something is changed, or for some time.
fn has_failed(deployment: &Deployment) -> bool {
    let is_waiting = matches!(
        deployment.state,
        DeploymentState::Backoff | DeploymentState::Partial
    );
    is_waiting && deployment.last_error.is_some()
}

async fn read(file: &Path) -> Result<Vec<DeploymentSpec>, Diagnostic> {
    let unreadable = |error: io::Error| {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
            io::ErrorKind::InvalidData => "it is not text".to_owned(),
            _ => error.to_string(),
        };
        errors::unreadable_deployments(file, &reason)
    };
    let mut text = String::new();
    let limit = FILE_LIMIT + 1;
    let read = if file == Path::new("-") {
        tokio::io::stdin()
            .take(limit)
            .read_to_string(&mut text)
            .await
    } else {
        let opened = File::open(file).await.map_err(unreadable)?;
        opened.take(limit).read_to_string(&mut text).await
    };
    read.map_err(unreadable)?;
    if text.len() as u64 > FILE_LIMIT {
        let reason = format!("it is larger than {} MiB", FILE_LIMIT >> 20);
        return Err(errors::unreadable_deployments(file, &reason));
    }
    let parsed: Result<DeployFile, _> = toml::from_str(&text);
    let parsed = parsed.map_err(|error| {
        let before = error.span().and_then(|span| text.get(..=span.start));
        let line = before.map_or(1, |before| before.lines().count());
        let reason = format!("line {line}: {}", excerpt(error.message(), 400));
        errors::unreadable_deployments(file, &reason)
    })?;
    Ok(parsed.deployment)
}

/// Runs `rbee-keeper undeploy`.
pub(crate) async fn undeploy(
    args: Undeploy,
    target: &Target,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let call = UndeployCall {
        model: args.model,
        drain_seconds: args.drain.drain,
    };
    target.running().await?.undeploy(&call).await?;
    let removed = serde_json::json!({ "undeployed": call.model });
    screen
        .document(&removed, || format!("undeployed {}\n", call.model))
        .await
}

/// Runs `rbee-keeper deployments`.
pub(crate) async fn list(target: &Target, screen: &mut Screen) -> Result<(), Failure> {
    let list = target.running().await?.deployments().await?;
    screen
        .document(&list, || text::list(&list.deployments))
        .await
}
