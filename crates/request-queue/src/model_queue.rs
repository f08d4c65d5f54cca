use std::collections::HashMap;

use input_validation::RequestId;
use queen_contract::Priority;

use crate::{ClientKey, Offer, QueuedRequest, Ticket, class::Class};

/// Number of interactive requests that may be served while a batch request waits, until one batch
/// request is offered before the others.
pub const INTERACTIVE_PER_BATCH: u32 = 8;

/// The waiting requests of one model.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelQueue {
    interactive: Class,
    batch: Class,
    /// Interactive requests that were served and have not returned since the last batch request,
    /// while one waited.
    overtaken: u32,
    index: HashMap<RequestId, Position>,
}

#[derive(Debug, Clone, Copy)]
struct Position {
    ticket: Ticket,
    priority: Priority,
    client: ClientKey,
}

impl Position {
    fn of(ticket: Ticket, request: &QueuedRequest) -> Self {
        Self {
            ticket,
            priority: request.priority,
            client: request.client,
        }
    }
}

impl ModelQueue {
    pub(crate) fn class(&self, priority: Priority) -> &Class {
        match priority {
            Priority::Interactive => &self.interactive,
            Priority::Batch => &self.batch,
        }
    }

    fn class_mut(&mut self, priority: Priority) -> &mut Class {
        match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Batch => &mut self.batch,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn push(&mut self, ticket: Ticket, request: QueuedRequest, turn: u64) {
        let position = Position::of(ticket, &request);
        self.index.insert(request.id.clone(), position);
        self.class_mut(request.priority).push(ticket, request, turn);
    }

    pub(crate) fn put_back(&mut self, ticket: Ticket, request: QueuedRequest) {
        let position = Position::of(ticket, &request);
        self.index.insert(request.id.clone(), position);
        if request.priority == Priority::Interactive {
            self.overtaken = self.overtaken.saturating_sub(1);
        }
        self.class_mut(request.priority).put_back(ticket, request);
    }

    pub(crate) fn remove(&mut self, id: &RequestId) -> Option<QueuedRequest> {
        let position = self.index.remove(id)?;
        self.class_mut(position.priority)
            .remove(position.ticket, position.client)
    }

    /// Presents the requests in order, and removes those that `offer` takes. Returns these.
    pub(crate) fn offer(
        &mut self,
        mut offer: impl FnMut(&RequestId) -> Offer,
        mut next_turn: impl FnMut() -> u64,
    ) -> Vec<QueuedRequest> {
        let mut taken = self.in_order();
        taken.retain(|request| offer(&request.id) == Offer::Take);
        let taken: Vec<QueuedRequest> = taken.into_iter().cloned().collect();
        for request in &taken {
            let Some(position) = self.index.remove(&request.id) else {
                continue;
            };
            self.class_mut(request.priority)
                .take(position.ticket, request.client, next_turn());
            match request.priority {
                Priority::Batch => self.overtaken = 0,
                Priority::Interactive if self.batch.is_empty() => self.overtaken = 0,
                Priority::Interactive => self.overtaken = self.overtaken.saturating_add(1),
            }
        }
        taken
    }

    /// Returns the requests in the order in which they are served if none of them is passed over.
    pub(crate) fn in_order(&self) -> Vec<&QueuedRequest> {
        let mut interactive = self.interactive.in_order().into_iter();
        let mut batch = self.batch.in_order().into_iter();
        let mut order = Vec::with_capacity(self.len());
        let mut overtaken = self.overtaken;
        loop {
            let next = if overtaken < INTERACTIVE_PER_BATCH {
                interactive.next().or_else(|| batch.next())
            } else {
                batch.next().or_else(|| interactive.next())
            };
            let Some(request) = next else {
                return order;
            };
            overtaken = match request.priority {
                Priority::Interactive => overtaken.saturating_add(1),
                Priority::Batch => 0,
            };
            order.push(request);
        }
    }
}
