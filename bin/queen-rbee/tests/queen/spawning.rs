use std::sync::Arc;

use diagnostics::{Code, Diagnostic};
use futures_util::{StreamExt as _, future::join_all};
use input_validation::Backend;
use queen_contract::{DeploymentState, InferEvent, NodeStatus};
use rest_client::CallError;
use serde_json::json;
use tokio::time::timeout;
use worker_contract::{Capability, StreamEvent, WorkerStatus};

use crate::{
    fake_hive::FakeHive,
    fake_worker::Behaviour,
    world::{LIMIT, Queen, assert_whole, call, eventually, final_error},
};

async fn queen_and_hive() -> (Queen, Arc<FakeHive>) {
    let home = Arc::new(tempfile::tempdir().unwrap());
    let hive = FakeHive::start(Arc::clone(&home)).await;
    (Queen::start(home, &[]).await, hive)
}

#[tokio::test]
async fn the_first_requests_spawn_one_worker_and_are_told_so() {
    let (queen, hive) = queen_and_hive().await;
    let calls: Vec<_> = (0..8).map(|n| call(&format!("r{n}"))).collect();
    let answers = join_all(calls.iter().map(|call| queen.infer(call))).await;
    for events in &answers {
        assert_whole(events, 5);
    }
    assert_eq!(hive.spawned(), 1);
    let told: Vec<String> = answers[0]
        .iter()
        .filter_map(|event| match event {
            InferEvent::Narration(narration) => Some(narration.message.clone()),
            _ => None,
        })
        .collect();
    assert!(
        told.iter().any(|t| t.contains("starting worker mock-0")),
        "{told:?}"
    );
    assert!(told.iter().any(|t| t == "spawning"), "{told:?}");
    let deployments = queen.control.deployments().await.unwrap().deployments;
    assert_eq!(deployments.len(), 1);
    assert_eq!(deployments[0].state, DeploymentState::Ready);
    assert_eq!(deployments[0].worker_id.as_str(), "mock-0");
    let nodes = queen.control.nodes().await.unwrap().nodes;
    assert_eq!(nodes[0].status, NodeStatus::Reachable);
}

#[tokio::test]
async fn a_failed_start_is_told_with_its_own_error() {
    let (queen, hive) = queen_and_hive().await;
    for code in [Code::UnsupportedQuantization, Code::WorkerStartFailed] {
        *hive.failure.lock().unwrap() = Some(Diagnostic::new(code, "no").hint("do"));
        let error = final_error(&queen.infer(&call("r1")).await).clone();
        assert_eq!((error.code, error.hint.as_deref()), (code, Some("do")));
        let deployments = queen.control.deployments().await.unwrap().deployments;
        let deployed = usize::from(code == Code::WorkerStartFailed);
        assert_eq!(
            deployments.len(),
            deployed,
            "a model that cannot be loaded is none"
        );
    }
    let deployments = queen.control.deployments().await.unwrap().deployments;
    assert_eq!(deployments[0].last_error.as_deref(), Some("no"));
    *hive.failure.lock().unwrap() = None;
    assert_whole(&queen.infer(&call("r2")).await, 5);
    eventually("the error is forgotten", async || {
        let deployments = queen.control.deployments().await.unwrap().deployments;
        deployments[0].last_error.is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_dies_in_the_middle_is_replaced_and_the_answer_goes_on() {
    let (queen, hive) = queen_and_hive().await;
    *hive.behaviour.lock().unwrap() = Behaviour::BreakAt { tokens: 3 };
    let mut events = Box::pin(queen.control.infer(&call("r1")).await.unwrap());
    let mut seen = Vec::new();
    while let Some(event) = timeout(LIMIT, events.next()).await.unwrap() {
        let event = event.unwrap();
        if matches!(&event, InferEvent::Worker(StreamEvent::Token(t)) if t.id == 0) {
            // Its process is gone by the time its connection breaks.
            hive.last_worker().stop.cancel();
            *hive.behaviour.lock().unwrap() = Behaviour::Answer { tokens: 5 };
        }
        seen.push(event);
    }
    assert_whole(&seen, 5);
    let spawns = hive.spawns.lock().unwrap();
    assert_eq!(spawns.len(), 2);
    assert_eq!(spawns[0].worker_id, spawns[1].worker_id);
    assert!(spawns[0].generation < spawns[1].generation);
}

#[tokio::test]
async fn after_a_restart_a_running_worker_is_waited_for_and_not_doubled() {
    let (queen, hive) = queen_and_hive().await;
    assert_whole(&queen.infer(&call("r1")).await, 5);
    let worker = hive.last_worker();
    let queen = queen.restarted(&[]).await;
    let mut events = Box::pin(queen.control.infer(&call("r2")).await.unwrap());
    let first = events.next().await.unwrap().unwrap();
    assert!(matches!(first, InferEvent::Narration(_)), "{first:?}");
    worker.beat(&queen).await;
    let rest: Vec<InferEvent> = events.map(Result::unwrap).collect().await;
    assert_whole(&rest, 5);
    assert_eq!(hive.spawned(), 1);
}

#[tokio::test]
async fn a_stopped_worker_is_fenced_and_the_next_request_starts_a_new_one() {
    let (queen, hive) = queen_and_hive().await;
    queen.infer(&call("r1")).await;
    let old = hive.last_worker();
    queen
        .control
        .stop_worker(&"mock-0".parse().unwrap(), Some(0))
        .await
        .unwrap();
    assert!(old.stop.is_cancelled());
    let late = queen.node.heartbeat(&old.heartbeat()).await.unwrap_err();
    assert!(matches!(late, CallError::Response(409, _)), "{late}");
    assert_eq!(queen.control.workers().await.unwrap().workers, []);
    assert_whole(&queen.infer(&call("r2")).await, 5);
    assert_eq!(hive.spawned(), 2);
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_before_anything_is_spawned() {
    let (queen, hive) = queen_and_hive().await;
    let refused = async |call| match queen.control.infer(&call).await {
        Err(CallError::Response(status, error)) => (status, error.code),
        Err(CallError::Link(error)) => panic!("{error}"),
        Ok(_) => panic!("not refused"),
    };
    let mut unknown = call("r1");
    unknown.model = "builtin:sonnet".parse().unwrap();
    assert_eq!(refused(unknown).await, (404, Code::ModelNotFound));
    let mut elsewhere = call("r2");
    elsewhere.node = Some("mars".parse().unwrap());
    assert_eq!(refused(elsewhere).await, (404, Code::NodeNotFound));
    let mut cuda = call("r3");
    cuda.backend = Some(Backend::Cuda);
    let error = final_error(&queen.infer(&cuda).await).clone();
    assert_eq!(error.code, Code::BackendUnavailable);
    assert!(error.message.contains("cpu"), "{error}");
    assert_eq!(hive.spawned(), 0);
}

#[tokio::test]
async fn what_a_model_can_do_is_told_when_its_worker_is_gone() {
    let (queen, hive) = queen_and_hive().await;
    let mut haiku = call("r1");
    haiku.model = "builtin:haiku".parse().unwrap();
    queen.infer(&haiku).await;
    let capabilities = async || {
        let (_, shown) = queen.post("/api/show", &json!({"model": "haiku"})).await;
        shown["capabilities"].clone()
    };
    assert_eq!(capabilities().await, json!(["completion"]));
    let worker = hive.last_worker();
    worker.info.lock().unwrap().capabilities = vec![Capability::Tools, Capability::Embed];
    worker.beat(&queen).await;
    let all = json!(["completion", "tools", "embedding"]);
    assert_eq!(capabilities().await, all);
    // The next worker knows nothing while it loads.
    let mut loading = worker.heartbeat();
    loading.worker.status = WorkerStatus::Starting;
    loading.worker.capabilities = Vec::new();
    queen.node.heartbeat(&loading).await.unwrap();
    assert_eq!(capabilities().await, all);
    let id = "haiku-0".parse().unwrap();
    queen.control.stop_worker(&id, Some(0)).await.unwrap();
    assert_eq!(queen.control.workers().await.unwrap().workers, []);
    assert_eq!(capabilities().await, all);
}

#[tokio::test]
async fn the_catalog_tells_models_and_ready_workers() {
    let (queen, _hive) = queen_and_hive().await;
    let mut haiku = call("r1");
    haiku.model = "builtin:haiku".parse().unwrap();
    queen.infer(&haiku).await;
    let models = queen.control.catalog().await.unwrap().models;
    assert_eq!(models.len(), 1);
    assert_eq!(models[0].ready_workers, 1);
    let worker = &queen.control.workers().await.unwrap().workers[0];
    assert_eq!(worker.info.id.as_str(), "haiku-0");
}
