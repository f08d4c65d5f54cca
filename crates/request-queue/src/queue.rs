use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use input_validation::{ModelRef, RequestId};
use queen_contract::Priority;

use crate::{Deadline, Offer, QueuedRequest, Ticket, class::Class, model_queue::ModelQueue};

/// The queue of a model has reached its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull {
    pub priority: Priority,
    /// Requests of this priority that wait for the model.
    pub waiting: usize,
    pub limit: usize,
}

/// The requests that wait for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueState {
    pub interactive: usize,
    pub batch: usize,
    /// When the oldest of them arrived.
    pub oldest: Duration,
}

/// The waiting requests of a queen.
#[derive(Debug, Clone)]
pub struct RequestQueue {
    limit: usize,
    /// Numbers tickets and turns.
    next: u64,
    /// A model without waiting requests has no entry.
    models: BTreeMap<ModelRef, ModelQueue>,
    deadlines: BTreeSet<(Deadline, RequestId)>,
}

impl RequestQueue {
    /// Creates a queue that holds `limit` new requests per model and priority, and above that,
    /// up to twice as many, one for each client that has no request waiting there.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            next: 0,
            models: BTreeMap::new(),
            deadlines: BTreeSet::new(),
        }
    }

    /// Adds a new request, unless the queue of its model is full.
    pub fn push(&mut self, request: QueuedRequest) -> Result<Ticket, QueueFull> {
        let class = self.models.get(&request.model);
        let class = class.map(|queue| queue.class(request.priority));
        let waiting = class.map_or(0, Class::len);
        let has_others = class.is_some_and(|class| class.has_client(request.client));
        let limit = if has_others {
            self.limit
        } else {
            self.limit.saturating_mul(2)
        };
        if waiting >= limit {
            return Err(QueueFull {
                priority: request.priority,
                waiting,
                limit,
            });
        }
        let ticket = Ticket(self.number());
        let turn = self.number();
        self.deadlines
            .insert((request.deadline, request.id.clone()));
        let queue = self.models.entry(request.model.clone()).or_default();
        queue.push(ticket, request, turn);
        Ok(ticket)
    }

    /// Returns a request to the queue that left it before. It precedes all requests of its priority
    /// that did not leave it, and the limit does not apply: the request was accepted once.
    pub fn put_back(&mut self, ticket: Ticket, request: QueuedRequest) {
        self.deadlines
            .insert((request.deadline, request.id.clone()));
        let queue = self.models.entry(request.model.clone()).or_default();
        queue.put_back(ticket, request);
    }

    /// Removes a request; returns false if it is not in the queue.
    pub fn remove(&mut self, model: &ModelRef, id: &RequestId) -> bool {
        let removed = self
            .models
            .get_mut(model)
            .and_then(|queue| queue.remove(id));
        let Some(request) = removed else {
            return false;
        };
        self.left(model, &[request]);
        true
    }

    /// Presents the waiting requests of a model in service order and removes those that
    /// `offer` takes.
    pub fn offer(&mut self, model: &ModelRef, offer: impl FnMut(&RequestId) -> Offer) {
        let Some(queue) = self.models.get_mut(model) else {
            return;
        };
        let next = &mut self.next;
        let taken = queue.offer(offer, || {
            *next += 1;
            *next
        });
        self.left(model, &taken);
    }

    fn left(&mut self, model: &ModelRef, requests: &[QueuedRequest]) {
        for request in requests {
            self.deadlines
                .remove(&(request.deadline, request.id.clone()));
        }
        if self.waiting(model) == 0 {
            self.models.remove(model);
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Returns the waiting requests of a model in service order.
    pub fn in_order(&self, model: &ModelRef) -> impl Iterator<Item = &QueuedRequest> {
        let queue = self.models.get(model);
        queue.into_iter().flat_map(ModelQueue::in_order)
    }

    /// Returns the requests of all models whose deadline has passed.
    pub fn expired(&self, now: Duration) -> Vec<RequestId> {
        let expired = self.deadlines.iter();
        let expired = expired.take_while(|(deadline, _)| deadline.has_passed(now));
        expired.map(|(_, id)| id.clone()).collect()
    }

    /// Returns the models that requests wait for.
    pub fn models(&self) -> impl Iterator<Item = &ModelRef> {
        self.models.keys()
    }

    /// Returns how many requests wait for each model, and since when.
    pub fn states(&self) -> impl Iterator<Item = (&ModelRef, QueueState)> {
        self.models.iter().map(|(model, queue)| {
            let arrived = queue.in_order().into_iter().map(|request| request.arrived);
            let state = QueueState {
                interactive: queue.class(Priority::Interactive).len(),
                batch: queue.class(Priority::Batch).len(),
                oldest: arrived.min().unwrap_or_default(),
            };
            (model, state)
        })
    }

    /// Returns how many requests wait for the model.
    pub fn waiting(&self, model: &ModelRef) -> usize {
        self.models.get(model).map_or(0, ModelQueue::len)
    }

    /// Returns how many requests wait for any model.
    pub fn len(&self) -> usize {
        self.deadlines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }
}
