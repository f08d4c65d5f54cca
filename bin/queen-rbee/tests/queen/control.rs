use std::time::Duration;

use diagnostics::Code;
use futures_util::StreamExt as _;
use queen_contract::{API_VERSION, Availability, ShutdownRequest};
use rest_client::CallError;
use state_files::{DaemonRecord, Home};
use tokio::time::timeout;
use worker_contract::WorkerStatus;

use crate::{
    fake_worker::{Behaviour, FakeWorker},
    world::{LIMIT, Queen, args, assert_whole, call, chat, eventually, final_error},
};

fn code<T: std::fmt::Debug>(answer: Result<T, CallError>) -> (u16, Code) {
    match answer.unwrap_err() {
        CallError::Response(status, error) => (status, error.code),
        CallError::Link(error) => panic!("no answer: {error}"),
    }
}

#[tokio::test]
async fn health_is_public_and_control_needs_its_own_key() {
    let queen = Queen::alone().await;
    let anyone = queen_contract::QueenClient::new(&queen.url, None).unwrap();
    assert_eq!(anyone.health().await.unwrap().api_version, API_VERSION);
    assert_eq!(code(anyone.status().await), (401, Code::MissingApiKey));
    assert_eq!(code(queen.node.status().await), (401, Code::InvalidApiKey));
    let worker = FakeWorker::start("w-0", 1, 1).await;
    assert_eq!(
        code(queen.control.heartbeat(&worker.heartbeat()).await),
        (401, Code::InvalidApiKey)
    );
    assert_eq!(queen.control.workers().await.unwrap().workers, []);
}

#[tokio::test]
async fn workers_register_are_shown_and_superseded_ones_are_told_to_end() {
    let queen = Queen::alone().await;
    let worker = FakeWorker::start("w-0", 2, 3).await;
    worker.beat(&queen).await;
    let shown = queen.control.worker(&"w-0".parse().unwrap()).await.unwrap();
    assert_eq!(shown.availability, Availability::Available);
    assert_eq!(shown.info.slots_total, 3);
    let old = FakeWorker::start("w-0", 1, 1).await;
    assert_eq!(
        code(queen.node.heartbeat(&old.heartbeat()).await),
        (409, Code::Fenced)
    );
    assert_eq!(
        code(queen.control.worker(&"w-9".parse().unwrap()).await),
        (404, Code::WorkerNotFound)
    );
    // No hive has it: it ends by its fence, now and after a restart.
    queen
        .control
        .stop_worker(&"w-0".parse().unwrap(), None)
        .await
        .unwrap();
    assert_eq!(
        code(queen.node.heartbeat(&worker.heartbeat()).await),
        (409, Code::Fenced)
    );
    let queen = queen.restarted(&["--no-local-hive"]).await;
    assert_eq!(
        code(queen.node.heartbeat(&worker.heartbeat()).await),
        (409, Code::Fenced)
    );
}

#[tokio::test]
async fn a_thousand_heartbeats_at_once_lose_nothing() {
    let queen = Queen::alone().await;
    let mut workers = Vec::new();
    for n in 0..50 {
        workers.push(FakeWorker::start(&format!("w-{n}"), 1, 1).await);
    }
    let beats = (0..1000).map(|n| {
        let beat = workers[n % 50].heartbeat();
        let queen = &queen;
        async move { queen.node.heartbeat(&beat).await }
    });
    let all = futures_util::stream::iter(beats)
        .buffer_unordered(64)
        .collect::<Vec<_>>();
    let answers = timeout(LIMIT, all).await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(queen.control.workers().await.unwrap().workers.len(), 50);
}

#[tokio::test]
async fn the_status_counts_and_metrics_are_readable() {
    let queen = Queen::alone().await;
    let worker = FakeWorker::start("w-0", 1, 1).await;
    worker.beat(&queen).await;
    queen.infer(&call("r1")).await;
    queen.idle().await;
    let status = queen.control.status().await.unwrap();
    assert_eq!(status.requests.completed, 1);
    assert_eq!(status.workers.len(), 1);
    let text = queen
        .http
        .get(format!("{}/metrics", queen.url))
        .send()
        .await
        .unwrap();
    let text = text.text().await.unwrap();
    assert!(
        text.contains("rbee_queen_requests_total{outcome=\"completed\"} 1"),
        "{text}"
    );
    assert!(text.contains("rbee_queen_tokens_total 5"), "{text}");
}

#[tokio::test]
async fn shutdown_lets_what_runs_finish_and_refuses_what_comes() {
    let mut queen = Queen::alone().await;
    let worker = FakeWorker::start("w-0", 1, 1).await;
    worker.beat(&queen).await;
    worker.behave(Behaviour::Hang { tokens: 1 });
    let mut running = Box::pin(queen.control.infer(&call("running")).await.unwrap());
    running.next().await;
    let control = queen.control.clone();
    let stopping = tokio::spawn(async move {
        control
            .shutdown(&ShutdownRequest {
                cascade: false,
                drain_seconds: Some(60),
            })
            .await
    });
    eventually("new work is refused", async || {
        let (status, body) = queen.post("/v1/chat/completions", &chat(false)).await;
        (status == 503 && body["error"]["code"] == "DRAINING").then_some(())
    })
    .await;
    assert!(!stopping.is_finished(), "it waits for what runs");
    queen
        .control
        .cancel(&"running".parse().unwrap())
        .await
        .unwrap();
    stopping.await.unwrap().unwrap();
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
async fn what_does_not_finish_in_time_is_ended() {
    let queen = Queen::alone().await;
    let worker = FakeWorker::start("w-0", 1, 1).await;
    worker.beat(&queen).await;
    worker.behave(Behaviour::Hang { tokens: 1 });
    let call = call("running");
    let (events, stopped) = tokio::join!(queen.infer(&call), async {
        eventually("it runs", async || (worker.active() == 1).then_some(())).await;
        let request = ShutdownRequest {
            cascade: true,
            drain_seconds: Some(0),
        };
        queen.control.shutdown(&request).await
    });
    assert_eq!(final_error(&events).code, Code::Draining);
    assert!(!stopped.unwrap().stopped.is_empty());
    assert_eq!(worker.active(), 0);
}

#[tokio::test]
async fn after_a_restart_workers_that_are_heard_serve_at_once() {
    let queen = Queen::alone().await;
    let worker = FakeWorker::start("w-0", 1, 1).await;
    worker.beat(&queen).await;
    let url = queen.url.clone();
    let queen = queen.restarted(&["--no-local-hive"]).await;
    assert_eq!(queen.url, url, "workers find it where it was");
    worker.beat(&queen).await;
    assert_whole(&queen.infer(&call("r1")).await, 5);
}

#[tokio::test]
async fn a_second_queen_in_the_same_home_and_an_open_address_without_a_key_are_refused() {
    let queen = Queen::alone().await;
    let error = queen_rbee::run(args(queen.home.path(), &["--no-local-hive"]))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::StateUnusable);
    assert!(error.message.contains(&queen.url), "{error}");
    let other = tempfile::tempdir().unwrap();
    let open = args(other.path(), &["--no-local-hive", "--bind", "0.0.0.0"]);
    let error = queen_rbee::run(open).await.unwrap_err();
    assert_eq!(error.code, Code::InsecureBind);
}

#[tokio::test]
async fn a_silent_worker_gets_no_work_and_a_draining_one_neither() {
    let queen = Queen::alone().await;
    let worker = FakeWorker::start("w-0", 1, 1).await;
    worker.info.lock().unwrap().status = WorkerStatus::Draining;
    worker.beat(&queen).await;
    let other = FakeWorker::start("w-1", 2, 1).await;
    other.beat(&queen).await;
    assert_whole(&queen.infer(&call("r1")).await, 5);
    assert_eq!((worker.seen().len(), other.seen().len()), (0, 1));
    let listed = queen.control.workers().await.unwrap().workers;
    assert!(
        listed
            .iter()
            .all(|w| w.heartbeat_age_ms < Duration::from_secs(15).as_millis() as u64)
    );
}
