//! The control interface, heartbeats, shutdown and restart.

use std::{fs, time::Duration};

use diagnostics::Code;
use futures_util::{StreamExt as _, stream};
use queen_contract::{API_VERSION, Availability, QueenClient, ShutdownRequest};
use rest_client::CallError;
use state_files::{DaemonRecord, Home};
use tokio::time::timeout;
use worker_contract::WorkerStatus;

use crate::{
    fake_worker::{Behavior, FakeWorker},
    harness::{LIMIT, Queen, args, assert_complete, call, chat, eventually, final_error, refusal},
};

#[tokio::test]
async fn health_is_public_and_the_control_interface_requires_its_own_token() {
    let queen = Queen::without_hive().await;
    let anyone = QueenClient::new(&queen.url, None).unwrap();
    assert_eq!(anyone.health().await.unwrap().api_version, API_VERSION);
    assert_eq!(refusal(anyone.status().await), (401, Code::MissingApiKey));
    assert_eq!(
        refusal(queen.node.status().await),
        (401, Code::InvalidApiKey)
    );
    let worker = FakeWorker::start("w-0", 1, 1).await;
    assert_eq!(
        refusal(queen.control.heartbeat(&worker.heartbeat()).await),
        (401, Code::InvalidApiKey)
    );
    assert_eq!(queen.control.workers().await.unwrap().workers, []);
}

#[tokio::test]
async fn a_heartbeat_with_the_token_of_another_node_is_refused_and_registers_nothing() {
    let queen = Queen::without_hive().await;
    let worker = FakeWorker::start("w-0", 1, 1).await;
    worker.info.lock().unwrap().hive_id = "attic".parse().unwrap();
    let refused = queen.node.heartbeat(&worker.heartbeat()).await;
    let Err(CallError::Response(401, error)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(error.code, Code::InvalidApiKey);
    assert_eq!(
        error.message,
        "the token of worker w-0 is not the token of node attic"
    );
    assert_eq!(queen.control.workers().await.unwrap().workers, []);
    // Nor does it raise the fence of a worker of this node with the same id.
    let worker = FakeWorker::start("w-0", 0, 1).await;
    worker.send_heartbeat(&queen).await;
    assert_eq!(queen.control.workers().await.unwrap().workers.len(), 1);
}

#[tokio::test]
async fn superseded_and_stopped_workers_are_fenced_also_after_a_restart() {
    let queen = Queen::without_hive().await;
    let worker = FakeWorker::start("w-0", 2, 3).await;
    worker.send_heartbeat(&queen).await;
    let shown = queen.control.worker(&"w-0".parse().unwrap()).await.unwrap();
    assert_eq!(shown.availability, Availability::Available);
    assert_eq!(shown.info.slots_total, 3);
    let superseded = FakeWorker::start("w-0", 1, 1).await;
    let heartbeat = superseded.heartbeat();
    assert_eq!(
        refusal(queen.node.heartbeat(&heartbeat).await),
        (409, Code::Fenced)
    );
    assert_eq!(
        refusal(queen.control.worker(&"w-9".parse().unwrap()).await),
        (404, Code::WorkerNotFound)
    );
    // No hive knows the worker, so only the fence stops it.
    queen
        .control
        .stop_worker(&"w-0".parse().unwrap(), None, false)
        .await
        .unwrap();
    let heartbeat = worker.heartbeat();
    assert_eq!(
        refusal(queen.node.heartbeat(&heartbeat).await),
        (409, Code::Fenced)
    );
    assert_eq!(queen.control.workers().await.unwrap().workers, []);
    let queen = queen.restart(&["--no-local-hive"]).await;
    let heartbeat = worker.heartbeat();
    assert_eq!(
        refusal(queen.node.heartbeat(&heartbeat).await),
        (409, Code::Fenced)
    );
}

#[tokio::test]
async fn no_concurrent_heartbeat_is_lost() {
    let queen = Queen::without_hive().await;
    let mut workers = Vec::new();
    for n in 0..50 {
        workers.push(FakeWorker::start(&format!("w-{n}"), 1, 1).await);
    }
    let heartbeats = (0..1000).map(|n| {
        let mut heartbeat = workers[n % 50].heartbeat();
        heartbeat.worker.memory_bytes = 1000 + heartbeat.sequence;
        let queen = &queen;
        async move { queen.node.heartbeat(&heartbeat).await }
    });
    let all = stream::iter(heartbeats)
        .buffer_unordered(64)
        .collect::<Vec<_>>();
    for result in timeout(LIMIT, all).await.unwrap() {
        result.unwrap();
    }
    let registered = queen.control.workers().await.unwrap().workers;
    assert_eq!(registered.len(), 50);
    for worker in registered {
        assert_eq!(worker.info.memory_bytes, 1019, "{}", worker.info.id);
    }
}

#[tokio::test]
async fn shutdown_waits_for_running_requests_and_refuses_new_ones() {
    let (mut queen, worker) = Queen::with_worker(1).await;
    worker.behave(Behavior::Hang { tokens: 1 });
    let mut running = Box::pin(queen.control.infer(&call("running")).await.unwrap());
    running.next().await;
    let control = queen.control.clone();
    let shutdown = tokio::spawn(async move {
        control
            .shutdown(&ShutdownRequest {
                cascade: false,
                drain_seconds: Some(60),
            })
            .await
    });
    eventually("new requests are refused", async || {
        let (status, body) = queen.post("/v1/chat/completions", &chat(false)).await;
        (status == 503 && body["error"]["code"] == "DRAINING").then_some(())
    })
    .await;
    assert!(!shutdown.is_finished(), "a request is running");
    queen.cancel(&"running".parse().unwrap()).await;
    let response = shutdown.await.unwrap().unwrap();
    assert_eq!(response.stopped, [""; 0]);
    timeout(LIMIT, &mut queen.running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(
        DaemonRecord::read(&Home::at(queen.home.path()).queen_record()).unwrap(),
        None
    );
}

#[tokio::test]
async fn requests_that_exceed_the_drain_time_are_ended() {
    let (queen, worker) = Queen::with_worker(1).await;
    worker.behave(Behavior::Hang { tokens: 1 });
    let call = call("running");
    let (events, stopped) = tokio::join!(queen.infer(&call), async {
        worker.until_active(1).await;
        let request = ShutdownRequest {
            cascade: true,
            drain_seconds: Some(0),
        };
        queen.control.shutdown(&request).await
    });
    assert_eq!(final_error(&events).code, Code::Draining);
    assert_eq!(
        stopped.unwrap().stopped,
        ["requests that were still running"]
    );
    worker.until_active(0).await;
}

#[tokio::test]
async fn after_a_restart_the_queen_listens_on_the_same_port_and_workers_serve_again() {
    let (queen, worker) = Queen::with_worker(1).await;
    let url = queen.url.clone();
    let queen = queen.restart(&["--no-local-hive"]).await;
    assert_eq!(queen.url, url);
    worker.send_heartbeat(&queen).await;
    assert_complete(&queen.infer(&call("r1")).await, 5);
}

#[tokio::test]
async fn a_second_queen_in_the_same_home_is_refused() {
    let queen = Queen::without_hive().await;
    let error = queen_rbee::run(args(queen.home.path(), &["--no-local-hive"]))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::StateUnusable);
    let expected = format!(
        "another queen is using {} (process {} at {})",
        queen.home.path().display(),
        std::process::id(),
        queen.url
    );
    assert_eq!(error.message, expected);
}

#[tokio::test]
async fn invalid_arguments_are_refused_before_anything_is_started() {
    for (arguments, code) in [
        (["--bind", "0.0.0.0"], Code::InsecureBind),
        (["--cors-origin", "null"], Code::ConfigInvalid),
    ] {
        let home = tempfile::tempdir().unwrap();
        // Without `--no-local-hive`, so that a hive would be started.
        let error = queen_rbee::run(args(home.path(), &arguments))
            .await
            .unwrap_err();
        assert_eq!(error.code, code);
        let files = fs::read_dir(home.path()).unwrap().count();
        assert_eq!(files, 0, "{arguments:?}");
    }
}

#[tokio::test]
async fn a_draining_worker_receives_no_requests() {
    let queen = Queen::without_hive().await;
    let draining = FakeWorker::start("w-0", 1, 1).await;
    draining.info.lock().unwrap().status = WorkerStatus::Draining;
    draining.send_heartbeat(&queen).await;
    let ready = FakeWorker::start("w-1", 2, 1).await;
    ready.send_heartbeat(&queen).await;
    assert_complete(&queen.infer(&call("r1")).await, 5);
    let received = (draining.requests().len(), ready.requests().len());
    assert_eq!(received, (0, 1));
    let shown = queen.control.workers().await.unwrap().workers;
    assert_eq!(shown.len(), 2);
    for worker in shown {
        let age = Duration::from_millis(worker.heartbeat_age_ms);
        assert!(age < Duration::from_secs(15), "{}", worker.info.id);
    }
}
