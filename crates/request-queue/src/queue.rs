use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use input_validation::{ModelRef, RequestId};

use crate::Deadline;

/// A request as the queue sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedRequest {
    pub id: RequestId,
    pub model: ModelRef,
    pub deadline: Deadline,
}

/// A request's position by arrival. It is kept while the request runs, so that a request
/// that loses its worker returns to the same position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The queue of a model has reached its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull {
    pub waiting: usize,
    pub limit: usize,
}

/// Whether a request that [`RequestQueue::offer`] presents leaves the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    Take,
    Keep,
}

#[derive(Debug, Clone)]
struct Entry {
    ticket: Ticket,
    request: QueuedRequest,
}

/// The waiting requests of a queen.
#[derive(Debug, Clone)]
pub struct RequestQueue {
    limit: usize,
    next_ticket: u64,
    /// In order of tickets. A model without waiting requests has no entry.
    models: BTreeMap<ModelRef, VecDeque<Entry>>,
}

impl RequestQueue {
    /// Creates a queue that holds at most `limit` new requests per model.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            next_ticket: 0,
            models: BTreeMap::new(),
        }
    }

    /// Adds a new request, unless the queue of its model is full.
    pub fn push(&mut self, request: QueuedRequest) -> Result<Ticket, QueueFull> {
        let waiting = self.waiting(&request.model);
        if waiting >= self.limit {
            return Err(QueueFull {
                waiting,
                limit: self.limit,
            });
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.put_back(ticket, request);
        Ok(ticket)
    }

    /// Returns a request to the queue that left it before, at its former position. The limit
    /// does not apply: the request was accepted once.
    pub fn put_back(&mut self, ticket: Ticket, request: QueuedRequest) {
        let queue = self.models.entry(request.model.clone()).or_default();
        let position = queue.partition_point(|entry| entry.ticket < ticket);
        queue.insert(position, Entry { ticket, request });
    }

    /// Removes a request; returns false if it is not in the queue.
    pub fn remove(&mut self, model: &ModelRef, id: &RequestId) -> bool {
        let Some(queue) = self.models.get_mut(model) else {
            return false;
        };
        let before = queue.len();
        queue.retain(|entry| entry.request.id != *id);
        let removed = queue.len() < before;
        if queue.is_empty() {
            self.models.remove(model);
        }
        removed
    }

    /// Presents the waiting requests of a model in service order and removes those that
    /// `offer` takes.
    pub fn offer(&mut self, model: &ModelRef, mut offer: impl FnMut(&RequestId) -> Offer) {
        let Some(queue) = self.models.get_mut(model) else {
            return;
        };
        queue.retain(|entry| offer(&entry.request.id) == Offer::Keep);
        if queue.is_empty() {
            self.models.remove(model);
        }
    }

    /// Returns the waiting requests of a model in service order.
    pub fn in_order(&self, model: &ModelRef) -> impl Iterator<Item = &QueuedRequest> {
        self.models
            .get(model)
            .into_iter()
            .flatten()
            .map(|entry| &entry.request)
    }

    /// Returns the requests of all models whose deadline has passed.
    pub fn expired(&self, now: Duration) -> Vec<RequestId> {
        self.models
            .values()
            .flatten()
            .filter(|entry| entry.request.deadline.has_passed(now))
            .map(|entry| entry.request.id.clone())
            .collect()
    }

    /// Returns the models that requests wait for.
    pub fn models(&self) -> impl Iterator<Item = &ModelRef> {
        self.models.keys()
    }

    /// Returns how many requests wait for the model.
    pub fn waiting(&self, model: &ModelRef) -> usize {
        self.models.get(model).map_or(0, VecDeque::len)
    }

    /// Returns how many requests wait for any model.
    pub fn len(&self) -> usize {
        self.models.values().map(VecDeque::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn model(name: &str) -> ModelRef {
        format!("mock:{name}=1").parse().unwrap()
    }

    fn request(id: &str, model_name: &str) -> QueuedRequest {
        QueuedRequest {
            id: id.parse().unwrap(),
            model: model(model_name),
            deadline: Deadline::at(Duration::from_secs(10)),
        }
    }

    fn ids(queue: &RequestQueue, model_name: &str) -> Vec<String> {
        queue
            .in_order(&model(model_name))
            .map(|request| request.id.to_string())
            .collect()
    }

    #[test]
    fn requests_of_a_model_are_offered_in_order_of_arrival() {
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
        assert_eq!(ids(&queue, "a"), ["1", "4"]);
        assert_eq!(ids(&queue, "b"), ["2"]);
    }

    #[test]
    fn a_returned_request_takes_its_former_position() {
        let mut queue = RequestQueue::new(3);
        let tickets: Vec<Ticket> = ["1", "2", "3"]
            .map(|id| queue.push(request(id, "a")).unwrap())
            .to_vec();
        queue.offer(&model("a"), |_| Offer::Take);
        queue.push(request("4", "a")).unwrap();
        queue.put_back(tickets[1], request("2", "a"));
        queue.put_back(tickets[0], request("1", "a"));
        queue.put_back(tickets[2], request("3", "a"));
        assert_eq!(ids(&queue, "a"), ["1", "2", "3", "4"], "beyond the limit");
    }

    #[test]
    fn the_limit_applies_to_each_model() {
        let mut queue = RequestQueue::new(1);
        queue.push(request("1", "a")).unwrap();
        let full = QueueFull {
            waiting: 1,
            limit: 1,
        };
        assert_eq!(queue.push(request("2", "a")), Err(full));
        queue.push(request("3", "b")).unwrap();
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn a_request_expires_at_its_deadline() {
        let mut queue = RequestQueue::new(8);
        queue.push(request("1", "a")).unwrap();
        let before = Duration::from_millis(9_999);
        assert_eq!(queue.expired(before), []);
        assert_eq!(
            queue.expired(Duration::from_secs(10)),
            ["1".parse().unwrap()]
        );
    }

    #[derive(Debug, Clone)]
    enum Op {
        Push { model: u8 },
        Take { model: u8, nth: usize },
        PutBack(usize),
        Remove(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0u8..3).prop_map(|model| Op::Push { model }),
            3 => (0u8..3, 0usize..8).prop_map(|(model, nth)| Op::Take { model, nth }),
            3 => any::<usize>().prop_map(Op::PutBack),
            1 => any::<usize>().prop_map(Op::Remove),
        ]
    }

    const NAMES: [&str; 3] = ["a", "b", "c"];

    proptest! {
        /// Compares the queue with a sorted list of arrival numbers per model.
        #[test]
        fn no_request_is_lost_doubled_or_overtaken(ops in prop::collection::vec(op(), 1..120)) {
            let mut queue = RequestQueue::new(5);
            let mut waiting: [Vec<usize>; 3] = Default::default();
            let mut taken: Vec<(usize, Ticket, u8)> = Vec::new();
            let mut tickets: Vec<(Ticket, u8)> = Vec::new();
            for op in ops {
                match op {
                    Op::Push { model } => {
                        let number = tickets.len();
                        let list = &mut waiting[usize::from(model)];
                        let pushed = queue.push(request(&number.to_string(), NAMES[usize::from(model)]));
                        prop_assert_eq!(pushed.is_ok(), list.len() < 5);
                        if let Ok(ticket) = pushed {
                            list.push(number);
                            tickets.push((ticket, model));
                        }
                    }
                    Op::Take { model: index, nth } => {
                        let list = &mut waiting[usize::from(index)];
                        let mut position = 0;
                        queue.offer(&model(NAMES[usize::from(index)]), |_| {
                            position += 1;
                            if position == nth + 1 { Offer::Take } else { Offer::Keep }
                        });
                        prop_assert_eq!(position, list.len());
                        if nth < list.len() {
                            let number = list.remove(nth);
                            taken.push((number, tickets[number].0, index));
                        }
                    }
                    Op::PutBack(nth) => {
                        if !taken.is_empty() {
                            let (number, ticket, index) = taken.swap_remove(nth % taken.len());
                            let list = &mut waiting[usize::from(index)];
                            list.push(number);
                            list.sort_unstable();
                            queue.put_back(ticket, request(&number.to_string(), NAMES[usize::from(index)]));
                        }
                    }
                    Op::Remove(nth) => {
                        if !tickets.is_empty() {
                            let number = nth % tickets.len();
                            let index = usize::from(tickets[number].1);
                            let removed = queue.remove(&model(NAMES[index]), &number.to_string().parse().unwrap());
                            prop_assert_eq!(removed, waiting[index].contains(&number));
                            waiting[index].retain(|n| *n != number);
                        }
                    }
                }
                for (name, list) in NAMES.iter().zip(&waiting) {
                    let expected: Vec<String> = list.iter().map(usize::to_string).collect();
                    prop_assert_eq!(ids(&queue, name), expected);
                }
                for (name, list) in NAMES.iter().zip(&waiting) {
                    prop_assert_eq!(queue.waiting(&model(name)), list.len());
                }
                prop_assert_eq!(queue.len(), waiting.iter().map(Vec::len).sum::<usize>());
                prop_assert_eq!(queue.is_empty(), waiting.iter().all(Vec::is_empty));
                prop_assert_eq!(queue.models().count(), waiting.iter().filter(|l| !l.is_empty()).count());
            }
        }
    }
}
