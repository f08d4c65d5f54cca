use std::{sync::atomic::Ordering, time::Duration};

use diagnostics::{Code, Diagnostic};
use futures_util::{StreamExt as _, future::join_all};
use jiff::Timestamp;
use queen_contract::InferEvent;
use tokio::time::{Instant, sleep, timeout};
use worker_contract::StreamEvent;

use crate::{
    fake_worker::{Behaviour, FakeWorker, SEED},
    world::{
        LIMIT, Queen, assert_whole, call, chat, eventually, final_error, from_worker, token_ids,
    },
};

async fn with_worker(slots: u32) -> (Queen, std::sync::Arc<FakeWorker>) {
    let queen = Queen::alone().await;
    let worker = FakeWorker::start("w-0", 1, slots).await;
    worker.beat(&queen).await;
    (queen, worker)
}

#[tokio::test]
async fn a_stream_is_relayed_event_by_event() {
    let (queen, worker) = with_worker(1).await;
    let events = queen.infer(&call("r1")).await;
    assert_whole(&events, 5);
    let assigned = events.iter().find_map(|event| match event {
        InferEvent::Assigned(assigned) => Some(assigned.clone()),
        _ => None,
    });
    let assigned = assigned.expect("an assigned event");
    assert_eq!((assigned.worker.as_str(), assigned.attempt), ("w-0", 1));
    assert_eq!(worker.seen()[0].request_id.as_str(), "r1");
    queen.idle().await;
    assert_eq!(queen.control.status().await.unwrap().requests.completed, 1);
}

#[tokio::test]
async fn a_client_that_goes_away_frees_the_slot_within_a_second() {
    let (queen, worker) = with_worker(1).await;
    for streaming in ["native", "chunks", "whole"] {
        worker.behave(Behaviour::Hang { tokens: 2 });
        let before = worker.seen().len();
        match streaming {
            "native" => {
                let mut events = Box::pin(queen.control.infer(&call("gone")).await.unwrap());
                while !matches!(
                    events.next().await,
                    Some(Ok(InferEvent::Worker(StreamEvent::Token(_))))
                ) {}
            }
            "chunks" => {
                let mut answer = queen.post_raw("/v1/chat/completions", &chat(true)).await;
                assert!(answer.chunk().await.unwrap().is_some());
            }
            _ => {
                let body = chat(false);
                let asked = queen.post_raw("/v1/chat/completions", &body);
                let reached = eventually("the worker has it", async || {
                    (worker.seen().len() > before).then_some(())
                });
                tokio::select! {
                    _ = asked => panic!("it hangs"),
                    () = reached => {}
                }
            }
        }
        // The client is dropped here.
        let gone = Instant::now();
        eventually("the worker's slot is free", async || {
            (worker.active() == 0).then_some(())
        })
        .await;
        assert!(gone.elapsed() < Duration::from_secs(1), "{streaming}");
        worker.behave(Behaviour::Answer { tokens: 5 });
        assert_whole(&queen.infer(&call("next")).await, 5);
    }
    queen.idle().await;
    assert_eq!(queen.control.status().await.unwrap().requests.cancelled, 3);
}

#[tokio::test]
async fn a_worker_that_cannot_be_reached_is_passed_over_unseen() {
    let (queen, dead) = with_worker(1).await;
    dead.stop.cancel();
    let port = dead.info.lock().unwrap().port;
    eventually("the port is closed", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .err()
    })
    .await;
    let other = FakeWorker::start("w-1", 2, 1).await;
    other.beat(&queen).await;
    assert_whole(&queen.infer(&call("r1")).await, 5);
    assert_eq!(other.seen().len(), 1);
}

#[tokio::test]
async fn a_stream_that_breaks_goes_on_on_another_worker_as_if_nothing_had_been() {
    for broken in [
        Behaviour::BreakAt { tokens: 3 },
        Behaviour::ErrorAt {
            tokens: 3,
            error: Diagnostic::new(Code::Internal, "bug"),
        },
    ] {
        let (queen, first) = with_worker(1).await;
        first.behave(broken);
        let mut events = Box::pin(queen.control.infer(&call("r1")).await.unwrap());
        let mut seen = vec![events.next().await.unwrap().unwrap()];
        // The second comes only now, so that the first one is chosen.
        let second = FakeWorker::start("w-1", 2, 1).await;
        second.beat(&queen).await;
        while let Some(event) = timeout(LIMIT, events.next()).await.unwrap() {
            seen.push(event.unwrap());
        }
        assert_whole(&seen, 5);
        let continued = &second.seen()[0];
        assert_eq!(continued.continue_from, [0, 1, 2]);
        assert_eq!(continued.sampling.seed, Some(SEED));
        let attempts: Vec<u32> = seen
            .iter()
            .filter_map(|event| match event {
                InferEvent::Assigned(assigned) => Some(assigned.attempt),
                _ => None,
            })
            .collect();
        assert_eq!(attempts, [1, 2]);
        for event in from_worker(&seen) {
            if let StreamEvent::Started(started) = event {
                assert_eq!(started.request_id.as_str(), "r1");
            }
        }
    }
}

#[tokio::test]
async fn without_another_worker_the_error_names_node_and_worker_and_the_partial_text_stays() {
    let (queen, worker) = with_worker(1).await;
    worker.behave(Behaviour::BreakAt { tokens: 3 });
    let events = queen.infer(&call("r1")).await;
    assert_eq!(token_ids(&events), [0, 1, 2]);
    let error = final_error(&events);
    assert_eq!(error.code, Code::WorkerLinkLost);
    assert!(
        error.message.contains("w-0") && error.message.contains("local"),
        "{error}"
    );
    assert_eq!(error.correlation_id.as_deref(), Some("r1"));
}

#[tokio::test]
async fn a_worker_that_computes_is_waited_for_and_one_that_does_not_is_given_up() {
    let more = ["--no-local-hive", "--worker-silence", "1"];
    let queen = Queen::start(std::sync::Arc::new(tempfile::tempdir().unwrap()), &more).await;
    let busy = FakeWorker::start("w-0", 1, 2).await;
    busy.behave(Behaviour::Hang { tokens: 0 });
    busy.info.lock().unwrap().last_step_ms = Some(700);
    busy.beat(&queen).await;
    let other = FakeWorker::start("w-1", 1, 1).await;
    let stop_computing = async {
        eventually("it is looked at again and again", async || {
            (busy.looked_at.load(Ordering::SeqCst) >= 3).then_some(())
        })
        .await;
        assert_eq!(busy.active(), 1);
        other.beat(&queen).await;
        busy.info.lock().unwrap().last_step_ms = Some(1000);
    };
    let call = call("r");
    let (events, ()) = tokio::join!(queen.infer(&call), stop_computing);
    assert_whole(&events, 5);
    assert_eq!((busy.seen().len(), other.seen().len()), (1, 1));
    queen.idle().await;
}

#[tokio::test]
async fn a_worker_without_a_slot_is_asked_again_and_that_is_no_failure() {
    let (queen, worker) = with_worker(1).await;
    worker.behave(Behaviour::Refuse(Diagnostic::new(
        Code::AllSlotsBusy,
        "full",
    )));
    let call = call("r1");
    let (events, ()) = tokio::join!(queen.infer(&call), async {
        eventually("it was refused", async || {
            (!worker.seen().is_empty()).then_some(())
        })
        .await;
        worker.behave(Behaviour::Answer { tokens: 5 });
    });
    assert_whole(&events, 5);
}

#[tokio::test]
async fn nor_is_it_one_for_an_answer_that_began_elsewhere() {
    for code in [Code::AllSlotsBusy, Code::Draining] {
        let (queen, first) = with_worker(1).await;
        first.behave(Behaviour::BreakAt { tokens: 3 });
        let second = FakeWorker::start("w-1", 2, 1).await;
        second.behave(Behaviour::Refuse(Diagnostic::new(code, "not now")));
        second.beat(&queen).await;
        let call = call("r1");
        let (seen, ()) = tokio::join!(queen.infer(&call), async {
            eventually("it was refused", async || {
                (!second.seen().is_empty()).then_some(())
            })
            .await;
            second.behave(Behaviour::Answer { tokens: 5 });
        });
        assert_whole(&seen, 5);
        let attempts = seen.iter().filter_map(|event| match event {
            InferEvent::Assigned(assigned) => Some(assigned.attempt),
            _ => None,
        });
        assert_eq!(attempts.collect::<Vec<_>>(), [1, 2, 2], "{code}");
    }
}

#[tokio::test]
async fn what_the_worker_says_of_the_request_is_passed_on_and_not_retried() {
    let (queen, worker) = with_worker(1).await;
    let error = Diagnostic::new(Code::ContextLengthExceeded, "600 of 512").param("messages");
    worker.behave(Behaviour::Refuse(error));
    assert_eq!(
        final_error(&queen.infer(&call("r1")).await).code,
        Code::ContextLengthExceeded
    );
    let (status, body) = queen.post("/v1/chat/completions", &chat(true)).await;
    assert_eq!(status, 400);
    assert_eq!(body["error"]["code"], "CONTEXT_LENGTH_EXCEEDED");
    assert_eq!(worker.seen().len(), 2);
}

#[tokio::test]
async fn cancel_by_name_ends_a_running_and_a_waiting_request() {
    let (queen, worker) = with_worker(1).await;
    worker.behave(Behaviour::Hang { tokens: 1 });
    let (running, waiting) = (call("running"), call("waiting"));
    let (ran, waited, ()) = tokio::join!(queen.infer(&running), queen.infer(&waiting), async {
        eventually("one runs and one waits", async || {
            let requests = queen.control.status().await.unwrap().requests;
            (requests.running == 1 && requests.waiting == 1).then_some(())
        })
        .await;
        for id in ["running", "waiting", "unknown"] {
            queen.control.cancel(&id.parse().unwrap()).await.unwrap();
        }
    });
    assert_eq!(final_error(&ran).code, Code::Cancelled);
    assert_eq!(final_error(&waited).code, Code::Cancelled);
    queen.idle().await;
    assert_eq!(worker.active(), 0);
}

#[tokio::test]
async fn the_deadline_ends_a_request_that_waits_and_is_passed_to_the_worker() {
    let (queen, worker) = with_worker(1).await;
    worker.behave(Behaviour::Hang { tokens: 1 });
    let mut blocking = Box::pin(queen.control.infer(&call("blocking")).await.unwrap());
    blocking.next().await;
    let mut late = call("late");
    let deadline = Timestamp::now() + Duration::from_millis(300);
    late.request.deadline = Some(deadline);
    assert_eq!(
        final_error(&queen.infer(&late).await).code,
        Code::DeadlineExceeded
    );
    drop(blocking);
    queen.idle().await;
    // A worker that does not keep the deadline is left by the queen.
    let mut hung = call("hung");
    hung.request.deadline = Some(Timestamp::now() + Duration::from_millis(300));
    assert_eq!(
        final_error(&queen.infer(&hung).await).code,
        Code::DeadlineExceeded
    );
    assert_eq!(
        worker.seen().last().unwrap().deadline,
        hung.request.deadline
    );
    queen.idle().await;
    assert_eq!(worker.active(), 0);
}

#[tokio::test]
async fn a_client_that_reads_nothing_holds_the_worker_back() {
    let (queen, worker) = with_worker(1).await;
    worker.behave(Behaviour::Flood { bytes: 64 << 10 });
    let events = queen.control.infer(&call("slow")).await.unwrap();
    // What the worker sends ends up in socket buffers until these are full.
    let mut last = u64::MAX;
    let sent = eventually("the worker is held back", async || {
        let sent = worker.sent.load(Ordering::SeqCst);
        sleep(Duration::from_millis(300)).await;
        std::mem::replace(&mut last, sent).eq(&sent).then_some(sent)
    })
    .await;
    assert!(
        sent < 2000,
        "{sent} pieces of 64 KiB are somewhere in between"
    );
    drop(events);
    queen.idle().await;
}

#[tokio::test]
async fn names_of_running_requests_are_unique() {
    let (queen, worker) = with_worker(2).await;
    worker.behave(Behaviour::Hang { tokens: 1 });
    let mut first = Box::pin(queen.control.infer(&call("same")).await.unwrap());
    first.next().await;
    let error = final_error(&queen.infer(&call("same")).await).clone();
    assert_eq!(error.code, Code::InvalidRequest);
    assert_eq!(error.param.as_deref(), Some("request_id"));
    let requests = queen.control.status().await.unwrap().requests;
    assert_eq!(requests.running, 1, "the first one is not touched");
    assert_eq!(worker.active(), 1);
    drop(first);
    queen.idle().await;
    worker.behave(Behaviour::Answer { tokens: 5 });
    assert_whole(&queen.infer(&call("same")).await, 5);
}

#[tokio::test]
async fn of_200_requests_with_50_cancelled_every_one_ends_and_no_slot_is_lost() {
    let (queen, worker) = with_worker(4).await;
    worker.behave(Behaviour::Answer { tokens: 20 });
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
                assert_whole(&queen.infer(&call).await, 20);
            }
        }
    });
    timeout(Duration::from_secs(60), join_all(clients))
        .await
        .unwrap();
    queen.idle().await;
    assert_eq!(worker.active(), 0);
    let status = queen.control.status().await.unwrap();
    let requests = status.requests;
    assert_eq!(
        requests.completed + requests.failed + requests.cancelled,
        200
    );
    assert_eq!(requests.failed, 0);
    assert!(requests.completed >= 150, "{requests:?}");
    assert_eq!(status.workers[0].active_requests, 0);
    assert!(worker.most_active.load(Ordering::SeqCst) <= 4);
}
