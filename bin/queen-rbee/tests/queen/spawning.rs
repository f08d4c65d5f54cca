//! Workers that the queen has its hive spawn.

use std::sync::Arc;

use diagnostics::{Code, Diagnostic};
use futures_util::{StreamExt as _, future::join_all};
use input_validation::Backend;
use queen_contract::{DeploymentState, InferEvent, NodeStatus};
use serde_json::json;
use tokio::time::timeout;
use worker_contract::{Capability, StreamEvent, WorkerStatus};

use crate::{
    fake_hive::FakeHive,
    fake_worker::Behavior,
    harness::{
        LIMIT, MODEL, Queen, assert_complete, call, eventually, final_error, message, refusal,
    },
};

async fn queen_and_hive() -> (Queen, Arc<FakeHive>) {
    let home = Arc::new(tempfile::tempdir().unwrap());
    let hive = FakeHive::start(Arc::clone(&home)).await;
    (Queen::start(home, &[]).await, hive)
}

#[tokio::test]
async fn the_first_requests_spawn_one_worker_and_narrate_it() {
    let (queen, hive) = queen_and_hive().await;
    let calls: Vec<_> = (0..8).map(|n| call(&format!("r{n}"))).collect();
    let responses = join_all(calls.iter().map(|call| queen.infer(call))).await;
    for events in &responses {
        assert_complete(events, 5);
    }
    assert_eq!(hive.spawns().len(), 1);
    let narration: Vec<&str> = responses[0]
        .iter()
        .filter_map(|event| match event {
            InferEvent::Narration(narration) => Some(narration.message.as_str()),
            InferEvent::Waiting(waiting) => Some(waiting.message.as_str()),
            _ => None,
        })
        .collect();
    for expected in [
        "waiting for a worker to load the model",
        "starting worker mock-0 for mock:a=1 on CPU-0 of local",
        "spawning",
    ] {
        assert!(narration.contains(&expected), "{narration:?}");
    }
    let deployments = queen.control.deployments().await.unwrap().deployments;
    assert_eq!(deployments.len(), 1);
    assert_eq!(deployments[0].state, DeploymentState::Ready);
    assert_eq!(deployments[0].workers[0].worker_id.as_str(), "mock-0");
    eventually("the node is shown as reachable", async || {
        let nodes = queen.control.nodes().await.unwrap().nodes;
        (nodes.len() == 1 && nodes[0].status == NodeStatus::Reachable).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_failed_spawn_is_reported_with_its_own_error() {
    let (queen, hive) = queen_and_hive().await;
    for code in [Code::UnsupportedQuantization, Code::WorkerStartFailed] {
        hive.fail_spawns(Some(Diagnostic::new(code, "no").hint("do")));
        let error = final_error(&queen.infer(&call("r1")).await).clone();
        assert_eq!(
            (error.code, error.message.as_str(), error.hint.as_deref()),
            (code, "no", Some("do"))
        );
        let deployments = queen.control.deployments().await.unwrap().deployments;
        let expected = usize::from(code == Code::WorkerStartFailed);
        assert_eq!(
            deployments.len(),
            expected,
            "a model that cannot be loaded is not deployed"
        );
    }
    let deployments = queen.control.deployments().await.unwrap().deployments;
    assert_eq!(deployments[0].last_error.as_deref(), Some("no"));
    hive.fail_spawns(None);
    assert_complete(&queen.infer(&call("r2")).await, 5);
    eventually("the error is cleared", async || {
        let deployments = queen.control.deployments().await.unwrap().deployments;
        deployments[0].last_error.is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_crashes_is_replaced_and_the_response_continues() {
    let (queen, hive) = queen_and_hive().await;
    hive.behave(Behavior::BreakAt { tokens: 3 });
    let mut response = Box::pin(queen.control.infer(&call("r1")).await.unwrap());
    let mut events = Vec::new();
    while let Some(event) = timeout(LIMIT, response.next()).await.unwrap() {
        let event = event.unwrap();
        if matches!(&event, InferEvent::Worker(StreamEvent::Token(t)) if t.id == 0) {
            // The process has exited when the connection breaks.
            hive.last_worker().exited.cancel();
            hive.behave(Behavior::Complete { tokens: 5 });
        }
        events.push(event);
    }
    assert_complete(&events, 5);
    let spawns = hive.spawns();
    assert_eq!(spawns.len(), 2);
    assert_eq!(spawns[0].worker_id, spawns[1].worker_id);
    assert!(spawns[0].generation < spawns[1].generation);
}

#[tokio::test]
async fn after_a_restart_a_running_worker_is_awaited_and_not_spawned_again() {
    let (queen, hive) = queen_and_hive().await;
    assert_complete(&queen.infer(&call("r1")).await, 5);
    let worker = hive.last_worker();
    let queen = queen.restart(&[]).await;
    let mut response = Box::pin(queen.control.infer(&call("r2")).await.unwrap());
    let first = response.next().await.unwrap().unwrap();
    assert!(matches!(first, InferEvent::Waiting(_)), "{first:?}");
    worker.send_heartbeat(&queen).await;
    let rest = response.map(Result::unwrap).collect::<Vec<_>>();
    assert_complete(&timeout(LIMIT, rest).await.unwrap(), 5);
    assert_eq!(hive.spawns().len(), 1);
}

#[tokio::test]
async fn a_stopped_worker_is_fenced_and_the_next_request_spawns_a_new_one() {
    let (queen, hive) = queen_and_hive().await;
    queen.infer(&call("r1")).await;
    let stopped = hive.last_worker();
    queen
        .control
        .stop_worker(&"mock-0".parse().unwrap(), Some(0), false)
        .await
        .unwrap();
    assert!(stopped.exited.is_cancelled());
    let late = queen.node.heartbeat(&stopped.heartbeat()).await;
    assert_eq!(refusal(late), (409, Code::Fenced));
    assert_eq!(queen.control.workers().await.unwrap().workers, []);
    assert_complete(&queen.infer(&call("r2")).await, 5);
    assert_eq!(hive.spawns().len(), 2);
}

#[tokio::test]
async fn ollamas_keep_alive_unloads_a_model() {
    let (queen, hive) = queen_and_hive().await;
    let unloaded = async || {
        eventually("no worker is registered", async || {
            let workers = queen.control.workers().await.unwrap().workers;
            workers.is_empty().then_some(())
        })
        .await;
    };
    let with_input = json!({"model": MODEL, "prompt": "hi", "stream": false, "keep_alive": 0});
    let (status, body) = queen.post("/api/generate", &with_input).await;
    assert_eq!((status, &body["response"]), (200, &json!("0.1.2.3.4.")));
    unloaded().await;

    let loads = json!({"model": MODEL, "keep_alive": "1h"});
    let (_, lines) = queen.post("/api/generate", &loads).await;
    assert_eq!(lines["done_reason"], "load");
    let (_, running) = queen.get("/api/ps").await;
    let expires = running["models"][0]["expires_at"].as_str().unwrap();
    assert!(!expires.starts_with("9999"), "{running}");

    let unloads = json!({"model": MODEL, "keep_alive": 0});
    let (status, body) = queen.post("/api/chat", &unloads).await;
    assert_eq!((status, &body["done_reason"]), (200, &json!("unload")));
    unloaded().await;
    assert_eq!(hive.spawns().len(), 2);
}

#[tokio::test]
async fn every_api_knows_the_same_names_of_a_model() {
    let (queen, _hive) = queen_and_hive().await;
    for name in [
        "haiku",
        "haiku:latest",
        "builtin:haiku",
        "builtin:haiku:latest",
    ] {
        for path in ["/v1/chat/completions", "/v1/messages", "/api/chat"] {
            let mut body = message(false);
            body["model"] = json!(name);
            let (status, response) = queen.post(path, &body).await;
            assert_eq!(status, 200, "{path} {name}: {response}");
            assert_eq!(response["model"], name);
        }
        let body = json!({"model": name, "input": "hi"});
        assert_eq!(queen.post("/v1/responses", &body).await.0, 200);
        let (_, model) = queen.get(&format!("/v1/models/{name}")).await;
        assert_eq!(model["id"], "builtin:haiku", "{name}");
    }
    let mut unknown = message(false);
    unknown["model"] = json!("sonnet:latest");
    for path in ["/v1/chat/completions", "/v1/messages", "/api/chat"] {
        assert_eq!(queen.post(path, &unknown).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn an_unknown_model_node_or_backend_is_refused_without_a_spawn() {
    let (queen, hive) = queen_and_hive().await;
    let mut unknown = call("r1");
    unknown.model = "builtin:sonnet".parse().unwrap();
    let refused = refusal(queen.control.infer(&unknown).await);
    assert_eq!(refused, (404, Code::ModelNotFound));
    let mut elsewhere = call("r2");
    elsewhere.node = Some("mars".parse().unwrap());
    let refused = refusal(queen.control.infer(&elsewhere).await);
    assert_eq!(refused, (404, Code::NodeNotFound));
    let mut cuda = call("r3");
    cuda.backend = Some(Backend::Cuda);
    let error = final_error(&queen.infer(&cuda).await).clone();
    assert_eq!(error.code, Code::BackendUnavailable);
    let expected = "node local has no cuda device; available: cpu";
    assert_eq!(error.message, expected);
    assert!(error.hint.as_ref().unwrap().contains("`--backend cpu`"));
    assert_eq!(hive.spawns().len(), 0);
}

#[tokio::test]
async fn the_capabilities_of_a_model_are_shown_when_no_worker_serves_it() {
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
    worker.send_heartbeat(&queen).await;
    let all = json!(["completion", "tools", "embedding"]);
    assert_eq!(capabilities().await, all);
    // A worker that is loading does not know its capabilities yet.
    let mut loading = worker.heartbeat();
    loading.worker.status = WorkerStatus::Starting;
    loading.worker.capabilities = Vec::new();
    queen.node.heartbeat(&loading).await.unwrap();
    assert_eq!(capabilities().await, all);
    let id = "haiku-0".parse().unwrap();
    queen
        .control
        .stop_worker(&id, Some(0), false)
        .await
        .unwrap();
    assert_eq!(queen.control.workers().await.unwrap().workers, []);
    assert_eq!(capabilities().await, all);
}

#[tokio::test]
async fn the_catalog_lists_models_with_their_ready_workers() {
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
