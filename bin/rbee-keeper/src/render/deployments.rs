use queen_contract::{DeployedPart, Deployment, DeploymentState};

use super::table::{table, wire_name};

/// Formats the result of `rbee-keeper deployments`.
pub(crate) fn list(deployments: &[Deployment]) -> String {
    let rows = deployments.iter().map(|deployment| {
        [
            deployment.model.to_string(),
            workers(deployment),
            wire_name(&deployment.state),
            places(deployment),
            deployment.last_error.clone().unwrap_or_default(),
        ]
    });
    let headings = ["DEPLOYMENT", "WORKERS", "STATE", "RUNS ON", "LAST ERROR"];
    table(headings, rows, "no deployments")
}

/// Describes how far a deployment is, in a line.
pub(crate) fn progress(deployment: &Deployment) -> String {
    let mut line = format!(
        "{}: {}, workers: {}",
        deployment.model,
        wire_name(&deployment.state),
        workers(deployment)
    );
    let places = places(deployment);
    if !places.is_empty() {
        line = format!("{line} ({places})");
    }
    line
}

/// The number of workers that are ready, of how many.
fn workers(deployment: &Deployment) -> String {
    let ready = deployment.ready_workers;
    match &deployment.wanted {
        None => format!("{ready} on request"),
        Some(wanted) => match (wanted.min_workers, wanted.max_workers()) {
            (min, max) if min == max => format!("{ready} of {min}"),
            (min, max) => format!("{ready} of {min} to {max}"),
        },
    }
}

/// The nodes and devices of its workers.
fn places(deployment: &Deployment) -> String {
    let running = deployment.workers.iter().filter(|worker| {
        matches!(
            worker.state,
            DeploymentState::Ready | DeploymentState::Starting
        )
    });
    let places: Vec<String> = running
        .map(|worker| {
            let parts = parts(&worker.parts);
            format!("{} {}{parts}", worker.node, worker.device)
        })
        .collect();
    places.join(", ")
}

/// What follows the device of a worker: the nodes and devices that compute parts of its model.
pub(super) fn parts(parts: &[DeployedPart]) -> String {
    let parts = parts.iter();
    let parts = parts.map(|part| format!(" + {} {}", part.node, part.device));
    parts.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn deployments_show_their_workers_and_where_they_run() {
        let worker = |id: &str, node: &str, device: &str, state: &str| {
            json!({
                "worker_id": id, "node": node, "device": device, "generation": 1, "state": state,
                "created_at": "2026-01-02T03:04:05Z",
            })
        };
        let deployments: Vec<Deployment> = serde_json::from_value(json!([
            {
                "model": "mock:a=1", "state": "partial", "ready_workers": 1,
                "wanted": {"model": "mock:a=1", "min_workers": 2, "max_workers": 3},
                "last_error": "too little\u{1b} memory",
                "workers": [
                    worker("mock-0", "attic", "GPU-1", "ready"),
                    worker("mock-1", "local", "CPU-0", "idle"),
                ],
            },
            {
                "model": "mock:b=1", "state": "ready", "ready_workers": 1,
                "workers": [worker("mock-2", "local", "CPU-0", "ready")],
            },
        ]))
        .unwrap();
        assert_eq!(
            list(&deployments),
            "DEPLOYMENT  WORKERS       STATE    RUNS ON      LAST ERROR\n\
             mock:a=1    1 of 2 to 3   partial  attic GPU-1  too little\\u{1b} memory\n\
             mock:b=1    1 on request  ready    local CPU-0\n"
        );
        assert_eq!(
            progress(&deployments[0]),
            "mock:a=1: partial, workers: 1 of 2 to 3 (attic GPU-1)"
        );
        assert_eq!(list(&[]), "no deployments\n");
        let mut split = deployments[1].clone();
        split.workers[0].parts = vec![DeployedPart {
            node: "attic".parse().unwrap(),
            device: "CPU-0".parse().unwrap(),
        }];
        assert!(list(&[split]).contains("ready  local CPU-0 + attic CPU-0\n"));
    }
}
