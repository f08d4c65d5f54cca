//! Ids of requests are unique while a request exists, and can be used again after it.

use diagnostics::{Code, Diagnostic};
use futures_util::StreamExt as _;
use jiff::{Timestamp, ToSpan as _};
use queen_contract::{InferCall, InferEvent};
use tokio::time::timeout;
use worker_contract::StreamEvent;

use crate::{
    fake_worker::{Behavior, FakeWorker},
    harness::{LIMIT, Queen, assert_complete, call, eventually, final_error},
};

#[tokio::test]
async fn an_id_in_use_is_refused_and_its_request_keeps_running() {
    let (queen, worker) = Queen::with_worker(2).await;
    worker.behave(Behavior::Hang { tokens: 1 });
    let mut first = Box::pin(queen.control.infer(&call("same")).await.unwrap());
    first.next().await;
    worker.until_active(1).await;
    let error = final_error(&queen.infer(&call("same")).await).clone();
    assert_eq!(error.code, Code::InvalidRequest);
    assert_eq!(error.param.as_deref(), Some("request_id"));
    assert_eq!(queen.counts().await.running, 1);
    assert_eq!(worker.active(), 1);
    drop(first);
    queen.idle().await;
    worker.behave(Behavior::Complete { tokens: 5 });
    assert_complete(&queen.infer(&call("same")).await, 5);
}

/// Runs a request up to its terminal event and leaves the rest of the response unread.
async fn until_terminal_event(queen: &Queen, call: &InferCall) -> StreamEvent {
    let events = queen.control.infer(call).await.unwrap();
    let mut terminal = Box::pin(events.filter_map(async |event| match event.unwrap() {
        InferEvent::Worker(event) if event.is_terminal() => Some(event),
        _ => None,
    }));
    timeout(LIMIT, terminal.next()).await.unwrap().unwrap()
}

/// Several threads, so that the next request can arrive while the last one is being finished.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_id_can_be_used_again_as_soon_as_its_response_has_ended() {
    let (queen, worker) = Queen::with_worker(1).await;
    let other = FakeWorker::start("w-1", 1, 1).await;
    other.send_heartbeat(&queen).await;
    let outcome = async |behavior: Behavior, call: &InferCall| {
        worker.behave(behavior.clone());
        other.behave(behavior);
        match until_terminal_event(&queen, call).await {
            StreamEvent::End(_) => None,
            StreamEvent::Error(error) => Some(error.code),
            event => panic!("{event:?}"),
        }
    };
    let invalid = || Diagnostic::new(Code::ContextLengthExceeded, "600 of 512");
    for n in 0..50 {
        let call = call("same");
        for (behavior, expected) in [
            (Behavior::Complete { tokens: 5 }, None),
            (
                Behavior::Refuse(invalid()),
                Some(Code::ContextLengthExceeded),
            ),
            (
                Behavior::ErrorAt {
                    tokens: 2,
                    error: invalid(),
                },
                Some(Code::ContextLengthExceeded),
            ),
            // Three attempts on two workers.
            (
                Behavior::Refuse(Diagnostic::new(Code::Internal, "bug")),
                Some(Code::Internal),
            ),
        ] {
            assert_eq!(outcome(behavior, &call).await, expected, "round {n}");
        }
        let behavior = Behavior::Hang { tokens: 0 };
        let (cancelled, ()) = tokio::join!(outcome(behavior, &call), async {
            // The cancellation of an id that does not exist has no effect.
            eventually("the request is running", async || {
                (queen.counts().await.running == 1).then_some(())
            })
            .await;
            queen.cancel(&call.request.request_id).await;
        });
        assert_eq!(cancelled, Some(Code::Cancelled), "round {n}");
    }
    let mut late = call("same");
    late.request.deadline = Some(Timestamp::now() + 100.milliseconds());
    let behavior = Behavior::Hang { tokens: 1 };
    let expired = outcome(behavior, &late).await;
    assert_eq!(expired, Some(Code::DeadlineExceeded));
    let completed = outcome(Behavior::Complete { tokens: 5 }, &call("same")).await;
    assert_eq!(completed, None);
}
