use diagnostics::Diagnostic;
use futures_util::future::join_all;
use hive_contract::{API_VERSION, PreflightCheck};
use preflight_validation::{HiveProbe, Version, check_hive, validate};
use queen_contract::{NodePreflight, PreflightCall, PreflightResponse};

use crate::{Node, Nodes, gpu_yield::check_yields};

impl Nodes {
    /// Checks one node, or all, and what their hives report about a worker. A hive that does not
    /// respond is a failed check. Fails with
    /// [`Code::NodeNotFound`](diagnostics::Code::NodeNotFound), or
    /// [`Code::InvalidRequest`](diagnostics::Code::InvalidRequest) for a number out of range.
    pub async fn preflight(&self, call: &PreflightCall) -> Result<PreflightResponse, Diagnostic> {
        validate(&call.worker)?;
        let nodes = if let Some(name) = &call.node {
            vec![self.get(name)?]
        } else {
            let nodes = self.all().into_iter();
            nodes.filter(|node| node.has_hive()).collect()
        };
        let mut worker = call.worker.clone();
        if let Some(model) = worker.model {
            let model = self.canonical_model(model).await;
            worker.model = Some(self.canonical(model));
        }
        let worker = &worker;
        let checked = nodes.iter().map(|node| async move {
            NodePreflight {
                node: node.name().clone(),
                checks: check_node(node, worker).await,
            }
        });
        Ok(PreflightResponse {
            nodes: join_all(checked).await,
        })
    }
}

async fn check_node(node: &Node, worker: &hive_contract::PreflightRequest) -> Vec<PreflightCheck> {
    let checked = async {
        let client = node.hive_soon().await?.client;
        let health = client.health().await?;
        let version = Version {
            version: health.version,
            api_version: health.api_version,
        };
        Ok((version, client.preflight(worker).await?.checks))
    };
    let (responds, further) = match checked.await {
        Ok((version, checks)) => (Ok(version), checks),
        Err(error) => (Err(error), Vec::new()),
    };
    let mut checks = check_hive(&HiveProbe {
        responds,
        queen: Version {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_version: API_VERSION,
        },
    });
    checks.extend(check_yields(node));
    checks.extend(further);
    checks
}
