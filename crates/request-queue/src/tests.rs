mod properties;

use std::time::Duration;

use input_validation::ModelRef;
use queen_contract::Priority::{Batch, Interactive};

use crate::*;

const NAMES: [&str; 2] = ["a", "b"];

fn model(name: &str) -> ModelRef {
    format!("mock:{name}=1").parse().unwrap()
}

fn request(id: &str, model_name: &str) -> QueuedRequest {
    QueuedRequest {
        id: id.parse().unwrap(),
        model: model(model_name),
        priority: Interactive,
        client: ClientKey::default(),
        arrived: Duration::ZERO,
        deadline: Deadline::at(Duration::from_secs(10)),
    }
}

/// A request for model `a`, whose id tells the client and the priority: `x1`, or `X1` for a batch
/// request of the client x.
fn of_client(id: &str) -> QueuedRequest {
    let letter = id.chars().next().unwrap();
    QueuedRequest {
        client: ClientKey::new(u64::from(letter.to_ascii_lowercase())),
        priority: if letter.is_ascii_uppercase() {
            Batch
        } else {
            Interactive
        },
        ..request(id, "a")
    }
}

fn queue_of(ids: &str) -> RequestQueue {
    let mut queue = RequestQueue::new(1000);
    for id in ids.split_whitespace() {
        queue.push(of_client(id)).unwrap();
    }
    queue
}

fn order(queue: &RequestQueue, model_name: &str) -> String {
    let model = model(model_name);
    let ids = queue.in_order(&model);
    let ids: Vec<String> = ids.map(|request| request.id.to_string()).collect();
    ids.join(" ")
}

/// Takes the first `count` requests of model `a`.
fn take(queue: &mut RequestQueue, count: usize) -> String {
    let mut taken = Vec::new();
    queue.offer(&model("a"), |id| {
        if taken.len() == count {
            return Offer::Keep;
        }
        taken.push(id.to_string());
        Offer::Take
    });
    taken.join(" ")
}

#[test]
fn requests_of_one_client_are_offered_in_order_of_arrival() {
    let mut queue = RequestQueue::new(8);
    for (id, model) in [("1", "a"), ("2", "b"), ("3", "a"), ("4", "a")] {
        queue.push(request(id, model)).unwrap();
    }
    let mut offered = Vec::new();
    queue.offer(&model("a"), |id| {
        offered.push(id.to_string());
        if id.as_str() == "3" {
            Offer::Take
        } else {
            Offer::Keep
        }
    });
    assert_eq!(offered, ["1", "3", "4"]);
    assert_eq!(order(&queue, "a"), "1 4");
    assert_eq!(order(&queue, "b"), "2");
}

#[test]
fn clients_take_turns_whatever_the_number_of_their_requests() {
    let mut queue = queue_of("x1 x2 x3 x4 y1 z1 z2");
    assert_eq!(order(&queue, "a"), "x1 y1 z1 x2 z2 x3 x4");
    assert_eq!(take(&mut queue, 2), "x1 y1");
    // A client that comes back has had its turn.
    queue.push(of_client("y2")).unwrap();
    assert_eq!(order(&queue, "a"), "z1 x2 y2 z2 x3 x4");
    assert_eq!(take(&mut queue, 1), "z1");
    assert_eq!(take(&mut queue, 1), "x2");
    queue.push(of_client("new1")).unwrap();
    assert_eq!(order(&queue, "a"), "y2 z2 x3 new1 x4");
}

#[test]
fn a_request_that_is_passed_over_keeps_its_turn() {
    let mut queue = queue_of("x1 x2 y1 y2");
    queue.offer(&model("a"), |id| match id.as_str() {
        "y1" => Offer::Take,
        _ => Offer::Keep,
    });
    assert_eq!(order(&queue, "a"), "x1 y2 x2");
}

#[test]
fn a_client_with_200_requests_delays_the_only_one_of_another_by_one() {
    let mut queue = RequestQueue::new(256);
    for n in 0..200 {
        queue.push(of_client(&format!("x{n}"))).unwrap();
    }
    take(&mut queue, 50);
    queue.push(of_client("y")).unwrap();
    assert_eq!(take(&mut queue, 2), "x50 y");
}

#[test]
fn a_returned_request_precedes_those_that_had_no_worker() {
    let mut queue = RequestQueue::new(3);
    let tickets = ["x1", "x2", "x3"].map(|id| queue.push(of_client(id)).unwrap());
    assert_eq!(take(&mut queue, 3), "x1 x2 x3");
    queue.push(of_client("y1")).unwrap();
    queue.push(of_client("x4")).unwrap();
    for (ticket, id) in [(tickets[1], "x2"), (tickets[0], "x1"), (tickets[2], "x3")] {
        queue.put_back(ticket, of_client(id));
    }
    // Beyond the limit.
    assert_eq!(order(&queue, "a"), "x1 x2 x3 y1 x4");
    // It does not cost its client another turn.
    queue.push(of_client("z1")).unwrap();
    assert_eq!(take(&mut queue, 3), "x1 x2 x3");
    assert_eq!(order(&queue, "a"), "y1 x4 z1");
}

#[test]
fn batch_requests_follow_interactive_ones_but_do_not_starve() {
    let mut queue = queue_of("X1 X2 y1 y2");
    assert_eq!(order(&queue, "a"), "y1 y2 X1 X2");
    for n in 3..12 {
        queue.push(of_client(&format!("y{n}"))).unwrap();
    }
    assert_eq!(take(&mut queue, 3), "y1 y2 y3");
    assert_eq!(order(&queue, "a"), "y4 y5 y6 y7 y8 X1 y9 y10 y11 X2");
    assert_eq!(take(&mut queue, 5), "y4 y5 y6 y7 y8");
    assert_eq!(order(&queue, "a"), "X1 y9 y10 y11 X2");
    // A request that is passed over does not lose its precedence.
    queue.offer(&model("a"), |id| match id.as_str() {
        "y9" => Offer::Take,
        _ => Offer::Keep,
    });
    assert_eq!(take(&mut queue, 2), "X1 y10");
    // A new batch request is overtaken as often as the one before.
    assert_eq!(take(&mut queue, 2), "y11 X2");
    queue.push(of_client("X3")).unwrap();
    for n in 20..29 {
        queue.push(of_client(&format!("y{n}"))).unwrap();
    }
    assert_eq!(take(&mut queue, 9), "y20 y21 y22 y23 y24 y25 y26 y27 X3");
}

#[test]
fn a_request_that_returns_has_overtaken_none() {
    let mut queue = queue_of("X1 y1 y2 y3 y4 y5 y6 y7 y8");
    let ticket = queue.push(of_client("y9")).unwrap();
    assert_eq!(take(&mut queue, 8), "y1 y2 y3 y4 y5 y6 y7 y8");
    assert_eq!(order(&queue, "a"), "X1 y9");
    queue.offer(&model("a"), |id| match id.as_str() {
        "y9" => Offer::Take,
        _ => Offer::Keep,
    });
    queue.put_back(ticket, of_client("y9"));
    assert_eq!(order(&queue, "a"), "X1 y9");
    let mut queue = queue_of("X1 y1 y2 y3 y4 y5 y6 y7");
    let ticket = queue.push(of_client("y8")).unwrap();
    assert_eq!(take(&mut queue, 8), "y1 y2 y3 y4 y5 y6 y7 y8");
    queue.put_back(ticket, of_client("y8"));
    assert_eq!(order(&queue, "a"), "y8 X1");
}

#[test]
fn interactive_requests_overtake_only_batch_requests_that_wait() {
    let mut queue = queue_of("y1 y2 y3 y4 y5 y6 y7 y8 y9");
    take(&mut queue, 8);
    queue.push(of_client("X1")).unwrap();
    assert_eq!(order(&queue, "a"), "y9 X1");
}

#[test]
fn the_limit_applies_to_each_model_and_priority() {
    let mut queue = RequestQueue::new(1);
    queue.push(of_client("x1")).unwrap();
    let full = |priority, waiting, limit| {
        Err(QueueFull {
            priority,
            waiting,
            limit,
        })
    };
    assert_eq!(queue.push(of_client("x2")), full(Interactive, 1, 1));
    queue.push(of_client("X1")).unwrap();
    assert_eq!(queue.push(of_client("X2")), full(Batch, 1, 1));
    queue.push(request("3", "b")).unwrap();
    // A client without requests gets one in, as long as they are not twice as many.
    queue.push(of_client("y1")).unwrap();
    assert_eq!(queue.push(of_client("y2")), full(Interactive, 2, 1));
    assert_eq!(queue.push(of_client("z1")), full(Interactive, 2, 2));
    assert_eq!(queue.len(), 4);
}

#[test]
fn a_request_expires_at_its_deadline() {
    let mut queue = RequestQueue::new(8);
    let later = QueuedRequest {
        deadline: Deadline::at(Duration::from_secs(11)),
        ..request("0", "b")
    };
    queue.push(later).unwrap();
    queue.push(request("1", "a")).unwrap();
    let ids = |millis| queue.expired(Duration::from_millis(millis));
    assert_eq!(ids(9_999), []);
    assert_eq!(ids(10_000), ["1".parse().unwrap()]);
    assert_eq!(ids(11_000).len(), 2);
}

#[test]
fn the_state_of_a_queue_has_its_classes_and_its_oldest_request() {
    let mut queue = RequestQueue::new(8);
    for (id, seconds) in [("x1", 7), ("Y1", 5), ("y1", 9)] {
        let arrived = Duration::from_secs(seconds);
        queue
            .push(QueuedRequest {
                arrived,
                ..of_client(id)
            })
            .unwrap();
    }
    let states: Vec<_> = queue.states().collect();
    let state = QueueState {
        interactive: 2,
        batch: 1,
        oldest: Duration::from_secs(5),
    };
    assert_eq!(states, [(&model("a"), state)]);
}

#[test]
fn a_deadline_keeps_its_time() {
    for seconds in [0, 7] {
        let time = Duration::from_secs(seconds);
        assert_eq!(Deadline::at(time).since_start(), time);
    }
}

#[test]
fn only_models_with_waiting_requests_are_listed() {
    let mut queue = RequestQueue::new(8);
    let models = |queue: &RequestQueue| queue.models().cloned().collect::<Vec<_>>();
    assert_eq!(models(&queue), []);
    queue.push(request("1", "b")).unwrap();
    queue.push(request("2", "a")).unwrap();
    assert_eq!(models(&queue), [model("a"), model("b")]);
    queue.remove(&model("a"), &"2".parse().unwrap());
    assert_eq!(models(&queue), [model("b")]);
}
