use std::time::Duration;

use bdd::{World, eventually};
use cucumber::then;
use queen_contract::{DecisionKind, InferEvent, WaitingReason};
use worker_contract::StreamEvent;

use super::{HOLDER, MODEL, Sent, events};

/// Returns the requests in the order in which they were assigned to workers.
async fn assigned(world: &World) -> Vec<String> {
    let list = world.queen().decisions(None, 1000).await.unwrap();
    let routed = list.decisions.into_iter();
    let routed = routed.filter(|decision| decision.kind == DecisionKind::Route);
    routed
        .map(|decision| decision.request.unwrap().to_string())
        .collect()
}

#[then(regex = r"^the requests run in the order (.*)$")]
async fn run_in_order(world: &mut World, expected: String) {
    for id in expected.split(", ") {
        let events = events(world, id);
        events.read_to_end().await;
        let last = events.seen.last();
        let is_end = matches!(last, Some(InferEvent::Worker(StreamEvent::End(_))));
        assert!(is_end, "{id}: {last:?}");
    }
    let order = assigned(world).await;
    let mut order: Vec<&str> = order.iter().map(String::as_str).collect();
    order.retain(|id| *id != HOLDER);
    // The worker may refuse a request while it ends the one that was cancelled.
    order.dedup();
    assert_eq!(order.join(", "), expected);
}

#[then("the request that holds the slot runs again, before the others")]
async fn held_again(world: &mut World) {
    let is_second = |event: &InferEvent| matches!(event, InferEvent::Assigned(assigned) if assigned.attempt == 2);
    events(world, HOLDER)
        .until("second worker", is_second)
        .await;
    assert_eq!(assigned(world).await, [HOLDER, HOLDER]);
}

#[then(regex = r"^(\d+) interactive and (\d+) batch requests wait for the model$")]
async fn queue(world: &mut World, interactive: u32, batch: u32) {
    let queen = world.queen();
    eventually(Duration::from_secs(20), || async {
        let queues = queen.status().await.map_err(|e| e.to_string())?.queues;
        let queue = queues.iter().find(|queue| queue.model.to_string() == MODEL);
        match queue {
            Some(queue) if (queue.interactive, queue.batch) == (interactive, batch) => Ok(()),
            _ => Err(format!("{queues:?}")),
        }
    })
    .await;
}

#[then(regex = r"^the header `(\S+)` is a number of seconds from (\d+) to (\d+)$")]
fn seconds(world: &mut World, name: String, least: u64, most: u64) {
    let header = world.last_response().headers[name.as_str()].to_str();
    let seconds: u64 = header.unwrap().parse().unwrap();
    assert!((least..=most).contains(&seconds), "{seconds}");
}

#[then(regex = r"^the request (\S+) is at position (\d+) of (\d+), with an estimate$")]
async fn is_at_position(world: &mut World, id: String, position: u32, waiting: u32) {
    let is_there = |event: &InferEvent| match event {
        InferEvent::Waiting(event) => {
            (event.position, event.waiting) == (position, waiting)
                && event.estimated_seconds.is_some()
                && event.reason == WaitingReason::Busy
        }
        _ => false,
    };
    events(world, &id).until("position", is_there).await;
}

#[then(regex = r"^the request (\S+) ends with ([A-Z_]+)$")]
async fn ends_with(world: &mut World, id: String, code: String) {
    let events = events(world, &id);
    events.read_to_end().await;
    match events.seen.last() {
        Some(InferEvent::Worker(StreamEvent::Error(error))) => {
            assert_eq!(error.code.as_str(), code, "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[then(regex = r"^the request (\S+) waited for the model to load, and completes$")]
async fn loaded(world: &mut World, id: String) {
    let mut events = world.get::<Sent>().0.remove(&id).unwrap();
    events.read_to_end().await;
    let names: Vec<&str> = events
        .seen
        .iter()
        .map(|event| match event {
            InferEvent::Waiting(waiting) if waiting.reason == WaitingReason::Loading => "loading",
            InferEvent::Narration(_) => "narration",
            InferEvent::Assigned(_) => "assigned",
            InferEvent::Worker(StreamEvent::End(_)) => "end",
            _ => "other",
        })
        .collect();
    assert_eq!(names.first(), Some(&"loading"), "{:?}", events.seen);
    assert!(names.contains(&"narration"), "{:?}", events.seen);
    assert_eq!(names.last(), Some(&"end"), "{:?}", events.seen);
}
