//! How requests run on workers: streaming, retries, continuation, cancellation and deadlines.

use std::{collections::HashSet, pin::pin, sync::Arc, time::Duration};

use diagnostics::{Code, Diagnostic};
use futures_util::{StreamExt as _, future::join_all};
use jiff::Timestamp;
use queen_contract::InferEvent;
use serde_json::json;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use worker_contract::StreamEvent;

use crate::{
    fake_worker::{Behavior, FakeWorker, SEED},
    harness::{
        LIMIT, Queen, assert_complete, attempts, call, chat, eventually, final_error, token_ids,
        worker_events,
    },
};

#[tokio::test]
async fn a_response_is_streamed_event_by_event() {
    let (queen, worker) = Queen::with_worker(1).await;
    let events = queen.infer(&call("r1")).await;
    assert_complete(&events, 5);
    let assigned = events.iter().find_map(|event| match event {
        InferEvent::Assigned(assigned) => Some(assigned.clone()),
        _ => None,
    });
    let assigned = assigned.expect("an assigned event");
    assert_eq!((assigned.worker.as_str(), assigned.attempt), ("w-0", 1));
    assert_eq!(worker.requests()[0].request_id.as_str(), "r1");
    assert_eq!(queen.counts().await.completed, 1);
}

#[tokio::test]
async fn a_client_that_disconnects_frees_the_slot_within_a_second() {
    let (queen, worker) = Queen::with_worker(1).await;
    for response in ["native", "streamed", "document"] {
        worker.behave(Behavior::Hang { tokens: 2 });
        let before = worker.requests().len();
        match response {
            "native" => {
                let mut events = Box::pin(queen.control.infer(&call("gone")).await.unwrap());
                while !matches!(
                    events.next().await,
                    Some(Ok(InferEvent::Worker(StreamEvent::Token(_))))
                ) {}
            }
            "streamed" => {
                let mut response = queen.post_raw("/v1/chat/completions", &chat(true)).await;
                assert!(response.chunk().await.unwrap().is_some());
            }
            _ => {
                let body = chat(false);
                let response = queen.post_raw("/v1/chat/completions", &body);
                tokio::select! {
                    response = response => panic!("{response:?}"),
                    () = worker.until_requested(before + 1) => {}
                }
            }
        }
        // The client has been dropped.
        let disconnected = Instant::now();
        worker.until_active(0).await;
        assert!(
            disconnected.elapsed() < Duration::from_secs(1),
            "{response}"
        );
        worker.behave(Behavior::Complete { tokens: 5 });
        assert_complete(&queen.infer(&call("next")).await, 5);
    }
    queen.idle().await;
    assert_eq!(queen.counts().await.cancelled, 3);
}

#[tokio::test]
async fn an_unreachable_worker_is_replaced_unnoticed() {
    let (queen, dead) = Queen::with_worker(1).await;
    dead.exited.cancel();
    let port = dead.info.lock().unwrap().port;
    eventually("the port is closed", async || {
        TcpStream::connect(("127.0.0.1", port)).await.err()
    })
    .await;
    let other = FakeWorker::start("w-1", 2, 1).await;
    other.send_heartbeat(&queen).await;
    assert_complete(&queen.infer(&call("r1")).await, 5);
    assert_eq!(other.requests().len(), 1);
}

#[tokio::test]
async fn a_response_that_breaks_continues_on_another_worker_after_its_last_token() {
    for broken in [
        Behavior::BreakAt { tokens: 3 },
        Behavior::ErrorAt {
            tokens: 3,
            error: Diagnostic::new(Code::Internal, "bug"),
        },
    ] {
        let (queen, first) = Queen::with_worker(1).await;
        first.behave(broken);
        let mut response = Box::pin(queen.control.infer(&call("r1")).await.unwrap());
        let mut events = vec![response.next().await.unwrap().unwrap()];
        // The second worker registers only now, so that the first one is chosen.
        let second = FakeWorker::start("w-1", 2, 1).await;
        second.send_heartbeat(&queen).await;
        while let Some(event) = timeout(LIMIT, response.next()).await.unwrap() {
            events.push(event.unwrap());
        }
        assert_complete(&events, 5);
        let continued = &second.requests()[0];
        assert_eq!(continued.request_id.as_str(), "r1-2");
        assert_eq!(continued.continue_from, [0, 1, 2]);
        assert_eq!(continued.sampling.seed, Some(SEED));
        assert_eq!(attempts(&events), [1, 2]);
        for event in worker_events(&events) {
            if let StreamEvent::Started(started) = event {
                assert_eq!(started.request_id.as_str(), "r1");
            }
        }
    }
}

#[tokio::test]
async fn without_another_worker_the_error_names_worker_and_node_and_the_client_keeps_its_tokens() {
    let (queen, worker) = Queen::with_worker(1).await;
    worker.behave(Behavior::BreakAt { tokens: 3 });
    let events = queen.infer(&call("r1")).await;
    assert_eq!(token_ids(&events), [0, 1, 2]);
    let error = final_error(&events);
    assert_eq!(error.code, Code::WorkerLinkLost);
    let start = "connection to worker w-0 on node local was lost after 3 tokens: ";
    let end = "; no other worker is available: the queen was started without a hive on node local";
    assert!(
        error.message.starts_with(start) && error.message.ends_with(end),
        "{error}"
    );
    let details = error.details.as_ref().unwrap();
    assert_eq!(
        json!(details),
        json!({"tokens": 3, "worker": "w-0", "node": "local"})
    );
    assert_eq!(error.correlation_id.as_deref(), Some("r1"));
}

#[tokio::test]
async fn a_silent_worker_that_computes_is_waited_for_and_a_stalled_one_is_replaced() {
    let arguments = ["--no-local-hive", "--worker-silence", "1"];
    let queen = Queen::start(Arc::new(tempfile::tempdir().unwrap()), &arguments).await;
    let silent = FakeWorker::start("w-0", 1, 2).await;
    silent.behave(Behavior::Hang { tokens: 0 });
    silent.info.lock().unwrap().last_step_ms = Some(700);
    silent.send_heartbeat(&queen).await;
    let other = FakeWorker::start("w-1", 1, 1).await;
    let stop_computing = async {
        eventually("its state is queried again and again", async || {
            (silent.info_calls() >= 3).then_some(())
        })
        .await;
        assert_eq!(silent.active(), 1);
        other.send_heartbeat(&queen).await;
        silent.info.lock().unwrap().last_step_ms = Some(1000);
    };
    let call = call("r");
    let (events, ()) = tokio::join!(queen.infer(&call), stop_computing);
    assert_complete(&events, 5);
    let received = (silent.requests().len(), other.requests().len());
    assert_eq!(received, (1, 1));
}

/// The connection to a frozen machine stays open.
#[tokio::test]
async fn a_worker_that_does_not_respond_is_replaced_and_gets_no_new_request() {
    let arguments = ["--no-local-hive", "--worker-silence", "1"];
    let queen = Queen::start(Arc::new(tempfile::tempdir().unwrap()), &arguments).await;
    let frozen = FakeWorker::start("w-0", 1, 4).await;
    frozen.freeze(2);
    frozen.send_heartbeat(&queen).await;
    let call_1 = call("r1");
    let (events, other) = tokio::join!(queen.infer(&call_1), async {
        frozen.until_requested(1).await;
        let other = FakeWorker::start("w-1", 1, 1).await;
        other.send_heartbeat(&queen).await;
        other
    });
    assert_complete(&events, 5);
    let narrated = events.iter().find_map(|event| match event {
        InferEvent::Narration(narration) => Some(narration.message.clone()),
        _ => None,
    });
    let narrated = narrated.unwrap_or_default();
    let start = "connection to worker w-0 on node local was lost after 2 tokens: it sent nothing";
    assert!(narrated.starts_with(start), "{narrated}");
    assert_complete(&queen.infer(&call("r2")).await, 5);
    let received = (frozen.requests().len(), other.requests().len());
    assert_eq!(received, (1, 2));
}

#[tokio::test]
async fn a_worker_whose_slots_are_busy_is_tried_again_and_that_is_no_attempt() {
    let (queen, worker) = Queen::with_worker(1).await;
    worker.behave(Behavior::Refuse(Diagnostic::new(
        Code::AllSlotsBusy,
        "all slots are busy",
    )));
    let call = call("r1");
    let (events, ()) = tokio::join!(queen.infer(&call), async {
        worker.until_requested(1).await;
        worker.behave(Behavior::Complete { tokens: 5 });
    });
    assert_complete(&events, 5);
    assert_eq!(attempts(&events), [1, 1]);
}

#[tokio::test]
async fn a_refusal_is_no_attempt_either_if_an_earlier_worker_produced_tokens() {
    for code in [Code::AllSlotsBusy, Code::Draining] {
        let (queen, first) = Queen::with_worker(1).await;
        first.behave(Behavior::BreakAt { tokens: 3 });
        let second = FakeWorker::start("w-1", 2, 1).await;
        second.behave(Behavior::Refuse(Diagnostic::new(code, "not now")));
        second.send_heartbeat(&queen).await;
        let call = call("r1");
        let (events, ()) = tokio::join!(queen.infer(&call), async {
            second.until_requested(1).await;
            second.behave(Behavior::Complete { tokens: 5 });
        });
        assert_complete(&events, 5);
        assert_eq!(attempts(&events), [1, 2, 2], "{code}");
    }
}

#[tokio::test]
async fn a_rejection_by_the_worker_is_returned_and_not_retried() {
    let (queen, worker) = Queen::with_worker(1).await;
    let error = Diagnostic::new(Code::ContextLengthExceeded, "600 of 512").param("messages");
    worker.behave(Behavior::Refuse(error));
    assert_eq!(
        final_error(&queen.infer(&call("r1")).await).code,
        Code::ContextLengthExceeded
    );
    let (status, body) = queen.post("/v1/chat/completions", &chat(true)).await;
    assert_eq!(status, 400);
    assert_eq!(body["error"]["code"], "context_length_exceeded");
    assert_eq!(worker.requests().len(), 2);
}

#[tokio::test]
async fn cancelling_ends_a_running_and_a_waiting_request() {
    let (queen, worker) = Queen::with_worker(1).await;
    worker.behave(Behavior::Hang { tokens: 1 });
    let (running, waiting) = (call("running"), call("waiting"));
    let (ran, waited, ()) = tokio::join!(queen.infer(&running), queen.infer(&waiting), async {
        eventually("one request runs and one waits", async || {
            let requests = queen.counts().await;
            (requests.running == 1 && requests.waiting == 1).then_some(())
        })
        .await;
        for id in ["running", "waiting", "unknown"] {
            queen.cancel(&id.parse().unwrap()).await;
        }
    });
    assert_eq!(final_error(&ran).code, Code::Cancelled);
    assert_eq!(final_error(&waited).code, Code::Cancelled);
    queen.idle().await;
    worker.until_active(0).await;
    assert_eq!(worker.requests().len(), 1);
}

#[tokio::test]
async fn the_deadline_ends_waiting_and_running_requests_and_is_sent_to_the_worker() {
    let (queen, worker) = Queen::with_worker(1).await;
    worker.behave(Behavior::Hang { tokens: 1 });
    let mut blocking = Box::pin(queen.control.infer(&call("blocking")).await.unwrap());
    blocking.next().await;
    worker.until_active(1).await;
    let mut waiting = call("waiting");
    waiting.request.deadline = Some(Timestamp::now() + Duration::from_millis(300));
    assert_eq!(
        final_error(&queen.infer(&waiting).await).code,
        Code::DeadlineExceeded
    );
    drop(blocking);
    queen.idle().await;
    worker.until_active(0).await;
    // The queen ends a request if its worker does not.
    let mut running = call("running");
    running.request.deadline = Some(Timestamp::now() + Duration::from_secs(1));
    assert_eq!(
        final_error(&queen.infer(&running).await).code,
        Code::DeadlineExceeded
    );
    let received = worker.requests().pop().unwrap();
    assert_eq!(received.request_id.as_str(), "running");
    assert_eq!(received.deadline, running.request.deadline);
    queen.idle().await;
    worker.until_active(0).await;
}

/// All parts run on one thread. While complete requests to another worker pass through the
/// queen, every part that can proceed does so: a worker that sends nothing meanwhile is
/// blocked.
#[tokio::test]
async fn a_client_that_does_not_read_blocks_the_worker() {
    /// More than fits into the buffers of all sockets between worker and client.
    const MAX_BUFFERED_TOKENS: u64 = 2000;
    const ROUNDS: u32 = 10;
    let (queen, worker) = Queen::with_worker(1).await;
    worker.behave(Behavior::Flood { bytes: 64 << 10 });
    let other = FakeWorker::start("w-1", 1, 1).await;
    other.info.lock().unwrap().model_id = "mock:b=1".parse().unwrap();
    other.send_heartbeat(&queen).await;
    let mut other_call = call("other");
    other_call.model = "mock:b=1".parse().unwrap();

    let mut events = pin!(queen.control.infer(&call("slow")).await.unwrap());
    let mut buffered = 0;
    let mut rounds_blocked = 0;
    while rounds_blocked < ROUNDS {
        assert_complete(&queen.infer(&other_call).await, 5);
        let sent = worker.tokens_sent();
        assert!(sent < MAX_BUFFERED_TOKENS, "{sent} tokens are buffered");
        rounds_blocked = if sent > 0 && sent == buffered {
            rounds_blocked + 1
        } else {
            0
        };
        buffered = sent;
    }
    // The worker continues as the client reads.
    while worker.tokens_sent() == buffered {
        timeout(LIMIT, events.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn of_200_requests_with_50_cancelled_each_finishes_and_no_slot_is_lost() {
    let (queen, worker) = Queen::with_worker(4).await;
    worker.behave(Behavior::Complete { tokens: 20 });
    let queen = &queen;
    let clients = (0..20).map(|client| async move {
        for n in 0..10 {
            let call = call(&format!("c{client}-{n}"));
            if (client + n) % 4 == 0 {
                let mut events = Box::pin(queen.control.infer(&call).await.unwrap());
                for _ in 0..(client % 5) {
                    events.next().await;
                }
            } else {
                assert_complete(&queen.infer(&call).await, 20);
            }
        }
    });
    timeout(Duration::from_secs(60), join_all(clients))
        .await
        .unwrap();
    queen.idle().await;
    worker.until_active(0).await;
    let status = queen.control.status().await.unwrap();
    let requests = status.requests;
    assert_eq!(
        requests.completed + requests.failed + requests.cancelled,
        200
    );
    assert_eq!(requests.failed, 0);
    assert!(requests.completed >= 150, "{requests:?}");
    assert_eq!(status.workers[0].active_requests, 0);
    assert_eq!(worker.max_active(), 4, "as many as it has slots");
    let received = worker.requests();
    let ids: HashSet<_> = received.iter().map(|r| &r.request_id).collect();
    assert_eq!(ids.len(), received.len());
}
