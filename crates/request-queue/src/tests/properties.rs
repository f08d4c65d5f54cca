//! What holds for any order of arrivals, services, returns and removals.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use queen_contract::Priority;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Push { model: u8, client: u8, batch: bool },
    Take { model: u8, nth: usize },
    PutBack(usize),
    Remove(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u8..2, 0u8..4, any::<bool>())
            .prop_map(|(model, client, batch)| Op::Push { model, client, batch }),
        3 => (0u8..2, 0usize..8).prop_map(|(model, nth)| Op::Take { model, nth }),
        2 => any::<usize>().prop_map(Op::PutBack),
        1 => any::<usize>().prop_map(Op::Remove),
    ]
}

/// What a request was pushed with, in order of arrival, and where it is.
#[derive(Debug, Clone)]
struct Known {
    ticket: Ticket,
    request: QueuedRequest,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Waiting,
    Returned,
    Taken,
    Gone,
}

proptest! {
    /// Also: the requests of a client keep their order, and returned ones precede the others.
    #[test]
    fn no_request_is_lost_or_doubled(ops in prop::collection::vec(op(), 1..150)) {
        const LIMIT: usize = 4;
        let mut queue = RequestQueue::new(LIMIT);
        let mut known: Vec<Known> = Vec::new();
        for op in ops {
            match op {
                Op::Push { model: index, client, batch } => {
                    let request = QueuedRequest {
                        client: ClientKey::new(client.into()),
                        priority: if batch { Batch } else { Interactive },
                        ..request(&known.len().to_string(), NAMES[usize::from(index)])
                    };
                    let class = known.iter().filter(|k| {
                        let is_waiting = matches!(k.place, Place::Waiting | Place::Returned);
                        is_waiting && k.request.model == request.model
                            && k.request.priority == request.priority
                    });
                    let has_others = class.clone()
                        .any(|k| k.place == Place::Waiting && k.request.client == request.client);
                    let limit = if has_others { LIMIT } else { 2 * LIMIT };
                    let is_full = class.count() >= limit;
                    let pushed = queue.push(request.clone());
                    prop_assert_eq!(pushed.is_err(), is_full);
                    if let Ok(ticket) = pushed {
                        known.push(Known { ticket, request, place: Place::Waiting });
                    }
                }
                Op::Take { model: index, nth } => {
                    let mut position = 0;
                    let mut taken = None;
                    queue.offer(&model(NAMES[usize::from(index)]), |id| {
                        position += 1;
                        if position == nth + 1 {
                            taken = Some(id.clone());
                            Offer::Take
                        } else {
                            Offer::Keep
                        }
                    });
                    if let Some(id) = taken {
                        let known = known.iter_mut().find(|k| k.request.id == id).unwrap();
                        known.place = Place::Taken;
                    }
                }
                Op::PutBack(nth) => {
                    let taken: Vec<_> = known.iter_mut().filter(|k| k.place == Place::Taken).collect();
                    let count = taken.len();
                    if let Some(known) = taken.into_iter().nth(nth % count.max(1)) {
                        queue.put_back(known.ticket, known.request.clone());
                        known.place = Place::Returned;
                    }
                }
                Op::Remove(nth) => {
                    let count = known.len();
                    if let Some(known) = known.get_mut(nth % count.max(1)) {
                        let removed = queue.remove(&known.request.model, &known.request.id);
                        let is_waiting = matches!(known.place, Place::Waiting | Place::Returned);
                        prop_assert_eq!(removed, is_waiting);
                        if removed {
                            known.place = Place::Gone;
                        }
                    }
                }
            }
            let mut total = 0;
            for name in NAMES {
                let model = model(name);
                let order: Vec<&QueuedRequest> = queue.in_order(&model).collect();
                let waiting = known.iter().filter(|k| {
                    matches!(k.place, Place::Waiting | Place::Returned) && k.request.model == model
                });
                let expected: BTreeSet<_> = waiting.clone().map(|k| &k.request.id).collect();
                let found: BTreeSet<_> = order.iter().map(|request| &request.id).collect();
                prop_assert_eq!(order.len(), expected.len());
                prop_assert_eq!(&found, &expected);
                prop_assert_eq!(queue.waiting(&model), order.len());
                total += order.len();
                let place = |id| order.iter().position(|request| request.id == id);
                for one in waiting.clone() {
                    for later in waiting.clone().filter(|k| k.ticket > one.ticket) {
                        let same_class = one.request.priority == later.request.priority;
                        let same_client = one.request.client == later.request.client;
                        let precedes = match (one.place, later.place) {
                            (Place::Returned, _) => same_class,
                            (_, Place::Returned) => false,
                            _ => same_class && same_client,
                        };
                        if precedes {
                            prop_assert!(place(one.request.id.clone()) < place(later.request.id.clone()));
                        }
                    }
                }
            }
            prop_assert_eq!(queue.len(), total);
            prop_assert_eq!(queue.is_empty(), total == 0);
            let counts: usize = queue.states().map(|(_, state)| state.interactive + state.batch).sum();
            prop_assert_eq!(counts, total);
        }
        for request in known.iter().filter(|k| matches!(k.place, Place::Waiting | Place::Returned)) {
            prop_assert!(queue.remove(&request.request.model, &request.request.id));
        }
        prop_assert!(queue.is_empty());
        prop_assert_eq!(queue.len(), 0);
        prop_assert_eq!(queue.expired(Duration::MAX), []);
    }

    #[test]
    fn turns_are_fair_and_batch_requests_do_not_starve(
        ops in prop::collection::vec(
            prop_oneof![
                3 => (0u64..5, prop::bool::weighted(0.3)).prop_map(Some),
                3 => Just(None),
            ],
            1..300,
        ),
    ) {
        let mut queue = RequestQueue::new(1000);
        let mut pushed = 0;
        // Per client and priority that waits: how often each other one was served since the
        // oldest request of this one became its oldest.
        let mut served: BTreeMap<(Priority, u64), BTreeMap<u64, u32>> = BTreeMap::new();
        let mut waiting: BTreeMap<(Priority, u64), u32> = BTreeMap::new();
        let mut overtaken = 0;
        for op in ops {
            let waits = |waiting: &BTreeMap<(Priority, u64), u32>, priority| {
                waiting.iter().any(|((p, _), count)| *p == priority && *count > 0)
            };
            if let Some((client, batch)) = op {
                let priority = if batch { Batch } else { Interactive };
                if !waits(&waiting, Batch) {
                    overtaken = 0;
                }
                queue.push(QueuedRequest {
                    client: ClientKey::new(client),
                    priority,
                    ..request(&pushed.to_string(), "a")
                }).unwrap();
                pushed += 1;
                let count = waiting.entry((priority, client)).or_default();
                if *count == 0 {
                    served.insert((priority, client), BTreeMap::new());
                }
                *count += 1;
                continue;
            }
            let model = model("a");
            let Some(first) = queue.in_order(&model).next().cloned() else { continue };
            let (has_interactive, has_batch) = (waits(&waiting, Interactive), waits(&waiting, Batch));
            take(&mut queue, 1);
            let client = (0..5).find(|client| ClientKey::new(*client) == first.client).unwrap();
            let key = (first.priority, client);
            *waiting.get_mut(&key).unwrap() -= 1;
            for (other, counts) in &mut served {
                if other.0 == first.priority && other.1 != client && waiting[other] > 0 {
                    let count = counts.entry(client).or_default();
                    *count += 1;
                    prop_assert!(*count <= 1, "{client} is served twice before {other:?}");
                }
            }
            served.insert(key, BTreeMap::new());
            match first.priority {
                Interactive if has_batch => {
                    overtaken += 1;
                    prop_assert!(overtaken <= INTERACTIVE_PER_BATCH);
                }
                Interactive => overtaken = 0,
                Batch => {
                    prop_assert!(!has_interactive || overtaken == INTERACTIVE_PER_BATCH);
                    overtaken = 0;
                }
            }
        }
    }
}
