//! `GET /metrics`.

use std::collections::BTreeMap;

use diagnostics::{Code, Diagnostic};
use jiff::{Timestamp, ToSpan as _};
use queen_contract::RequestCounts;
use serde_json::json;

use crate::{
    fake_worker::{Behavior, FakeWorker},
    harness::{MODEL, Queen, assert_complete, call, chat, final_error},
};

/// Returns the metrics by name and labels, as they are written.
async fn metrics(queen: &Queen) -> BTreeMap<String, f64> {
    let request = queen.http.get(format!("{}/metrics", queen.url));
    let response = request.send().await.unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let text = response.text().await.unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|sample| {
            let (name, value) = sample.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// Asserts that the metrics and the status both show these counts.
async fn assert_counts(queen: &Queen, expected: RequestCounts) {
    let metrics = metrics(queen).await;
    let metric = |name: &str| metrics[&format!("rbee_queen_{name}")] as u64;
    let shown = RequestCounts {
        waiting: metric("waiting_requests"),
        running: metric("running_requests"),
        completed: metric("requests_total{outcome=\"completed\"}"),
        failed: metric("requests_total{outcome=\"failed\"}"),
        cancelled: metric("requests_total{outcome=\"cancelled\"}"),
    };
    assert_eq!(shown, expected, "metrics");
    assert_eq!(queen.counts().await, expected, "status");
}

#[tokio::test]
async fn outcomes_are_counted_alike_in_metrics_and_status() {
    let (queen, worker) = Queen::with_worker(1).await;
    let mut counts = RequestCounts::default();
    assert_counts(&queen, counts).await;

    assert_complete(&queen.infer(&call("completed")).await, 5);
    assert_eq!(
        queen.post("/v1/chat/completions", &chat(false)).await.0,
        200
    );
    let tokenize = json!({"model": MODEL, "input": {"prompt": "hi"}});
    assert_eq!(queen.post("/v1/tokenize", &tokenize).await.0, 200);
    queen.idle().await;
    counts.completed += 3;
    assert_counts(&queen, counts).await;

    let error = Diagnostic::new(Code::ContextLengthExceeded, "600 of 512");
    worker.behave(Behavior::Refuse(error.clone()));
    final_error(&queen.infer(&call("refused")).await);
    assert_eq!(queen.post("/v1/tokenize", &tokenize).await.0, 400);
    worker.behave(Behavior::ErrorAt { tokens: 2, error });
    final_error(&queen.infer(&call("failed")).await);
    queen.idle().await;
    counts.failed += 3;
    assert_counts(&queen, counts).await;

    worker.behave(Behavior::Hang { tokens: 1 });
    let (cancelled, disconnected) = (call("cancelled"), call("disconnected"));
    let (events, ()) = tokio::join!(queen.infer(&cancelled), async {
        worker.until_active(1).await;
        assert_counts(
            &queen,
            RequestCounts {
                running: 1,
                ..counts
            },
        )
        .await;
        queen.cancel(&"cancelled".parse().unwrap()).await;
    });
    assert_eq!(final_error(&events).code, Code::Cancelled);
    queen.idle().await;
    let events = queen.control.infer(&disconnected).await.unwrap();
    worker.until_active(1).await;
    drop(events);
    queen.idle().await;
    worker.until_active(0).await;
    tokio::select! {
        response = queen.post("/v1/tokenize", &tokenize) => panic!("{response:?}"),
        () = worker.until_active(1) => {}
    }
    queen.idle().await;
    counts.cancelled += 3;
    assert_counts(&queen, counts).await;

    // A request that expires while it waits, and one that no worker can serve.
    let mut blocking = call("blocking");
    blocking.request.deadline = Some(Timestamp::now() + 1.hour());
    let blocking = queen.control.infer(&blocking).await.unwrap();
    worker.until_active(1).await;
    let mut late = call("late");
    late.request.deadline = Some(Timestamp::now() + 100.milliseconds());
    let late = queen.infer(&late).await;
    assert_eq!(final_error(&late).code, Code::DeadlineExceeded);
    let mut elsewhere = call("elsewhere");
    elsewhere.model = "mock:b=1".parse().unwrap();
    let elsewhere = queen.infer(&elsewhere).await;
    assert_eq!(final_error(&elsewhere).code, Code::HiveUnreachable);
    counts.failed += 2;
    assert_counts(
        &queen,
        RequestCounts {
            running: 1,
            ..counts
        },
    )
    .await;
    drop(blocking);
    queen.idle().await;
    counts.cancelled += 1;
    assert_counts(&queen, counts).await;
}

#[tokio::test]
async fn tokens_workers_and_reassignments_are_measured() {
    let (queen, worker) = Queen::with_worker(1).await;
    assert_complete(&queen.infer(&call("r1")).await, 5);
    let after_one = metrics(&queen).await;
    let metric = |name: &str| after_one[&format!("rbee_queen_{name}")];
    assert_eq!(metric("tokens_total"), 5.0);
    assert_eq!(metric("workers"), 1.0);
    assert_eq!(metric("requests_moved_total"), 0.0);
    assert_eq!(metric("time_to_first_token_seconds_count"), 1.0);
    assert_eq!(metric("time_to_worker_seconds_count"), 1.0);

    worker.behave(Behavior::Refuse(Diagnostic::new(Code::Internal, "bug")));
    let second = FakeWorker::start("w-1", 1, 1).await;
    second.send_heartbeat(&queen).await;
    assert_complete(&queen.infer(&call("r2")).await, 5);
    let after_two = metrics(&queen).await;
    let metric = |name: &str| after_two[&format!("rbee_queen_{name}")];
    assert_eq!(metric("tokens_total"), 10.0);
    assert_eq!(metric("workers"), 2.0);
    assert_eq!(metric("requests_moved_total"), 1.0);
    assert_eq!(metric("time_to_first_token_seconds_count"), 2.0);
    assert_eq!(metric("time_to_worker_seconds_count"), 2.0);
}
