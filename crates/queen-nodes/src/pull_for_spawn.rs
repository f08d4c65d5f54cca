use std::pin::pin;

use futures_util::StreamExt as _;
use hive_contract::{JobEvent, NodePullRequest, PullRequest};
use hive_lifecycle::RunningHive;
use tokio::time::{Duration, Instant};

use crate::{
    errors,
    spawning::{SpawnError, Spawning, narrate_progress},
};

/// How often the progress of a pull is narrated to waiting requests.
const NARRATION_INTERVAL: Duration = Duration::from_secs(2);

impl Spawning<'_> {
    /// Copies the model from another node, or fetches it if that is allowed, before a worker is
    /// spawned for it.
    pub(crate) async fn pull(&self, hive: &RunningHive) -> Result<(), SpawnError> {
        let model = &self.target.model;
        let catalog = self.nodes.catalog();
        let may_pull = catalog.may_pull(model);
        let copy_from = if catalog.is_on(self.node.name(), model) {
            None
        } else {
            let nodes = self.nodes;
            nodes.copy_source(self.node, model, None, may_pull).await?
        };
        if copy_from.is_none() && !may_pull {
            return Ok(());
        }
        let request = NodePullRequest {
            request: PullRequest {
                model: model.clone(),
                revision: None,
            },
            copy_from,
        };
        let job = hive.client.pull_model(&request).await?.job_id;
        let mut events = pin!(hive.client.job_events(&job).await?);
        let mut last = None::<Instant>;
        while let Some(event) = events.next().await {
            match event? {
                JobEvent::Narration(narration) => self.narrate(narration).await,
                JobEvent::Progress(progress) if progress.item.is_none() => {
                    if last.is_none_or(|last| last.elapsed() >= NARRATION_INTERVAL) {
                        last = Some(Instant::now());
                        let narration = narrate_progress(&model.to_string(), &progress);
                        self.narrate(narration).await;
                    }
                }
                JobEvent::Progress(_) => {}
                JobEvent::Result(_) => {
                    self.nodes.models().await;
                    return Ok(());
                }
                JobEvent::Error(error) => {
                    let error = errors::on_node(error, Some(self.node.name()));
                    return Err(SpawnError::Final(error));
                }
                JobEvent::Cancelled {} => {
                    return Err(SpawnError::Final(errors::pull_cancelled(model)));
                }
            }
        }
        Err(SpawnError::HiveLost(errors::pull_stream_ended(model)))
    }
}
