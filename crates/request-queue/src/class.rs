use std::collections::{BTreeMap, HashMap};

use crate::{ClientKey, QueuedRequest, Ticket};

/// The waiting requests of one model and one priority, in turns among their clients.
///
/// Each round has one request of every client, the oldest one. A client that was served goes behind
/// all others, and so does one that had no request waiting: while a request is the oldest of its
/// client, at most one request of every other client is served before it. Requests that were
/// served and returned do not wait for another turn: they precede the rounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Class {
    returned: BTreeMap<Ticket, QueuedRequest>,
    clients: HashMap<ClientKey, Client>,
    /// The clients in the order of their turns.
    turns: BTreeMap<u64, ClientKey>,
    waiting: usize,
}

#[derive(Debug, Clone)]
struct Client {
    turn: u64,
    /// In order of arrival.
    requests: BTreeMap<Ticket, QueuedRequest>,
}

impl Class {
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(crate) fn has_client(&self, client: ClientKey) -> bool {
        self.clients.contains_key(&client)
    }

    /// Adds a new request. `turn` is higher than all turns before.
    pub(crate) fn push(&mut self, ticket: Ticket, request: QueuedRequest, turn: u64) {
        let client = request.client;
        let turns = &mut self.turns;
        let entry = self.clients.entry(client).or_insert_with(|| {
            turns.insert(turn, client);
            Client {
                turn,
                requests: BTreeMap::new(),
            }
        });
        entry.requests.insert(ticket, request);
        self.waiting += 1;
    }

    pub(crate) fn put_back(&mut self, ticket: Ticket, request: QueuedRequest) {
        self.returned.insert(ticket, request);
        self.waiting += 1;
    }

    pub(crate) fn remove(&mut self, ticket: Ticket, client: ClientKey) -> Option<QueuedRequest> {
        let removed = self.returned.remove(&ticket).or_else(|| {
            let entry = self.clients.get_mut(&client)?;
            let removed = entry.requests.remove(&ticket)?;
            if entry.requests.is_empty() {
                self.turns.remove(&entry.turn);
                self.clients.remove(&client);
            }
            Some(removed)
        })?;
        self.waiting -= 1;
        Some(removed)
    }

    /// Removes a request that is served. `turn`, the client's next one, is higher than all turns
    /// before.
    pub(crate) fn take(&mut self, ticket: Ticket, client: ClientKey, turn: u64) {
        let had_a_turn = self.returned.contains_key(&ticket);
        if self.remove(ticket, client).is_none() || had_a_turn {
            return;
        }
        if let Some(entry) = self.clients.get_mut(&client) {
            self.turns.remove(&entry.turn);
            entry.turn = turn;
            self.turns.insert(turn, client);
        }
    }

    /// Returns the requests in the order in which they are served if none of them is passed over.
    pub(crate) fn in_order(&self) -> Vec<&QueuedRequest> {
        let mut order: Vec<&QueuedRequest> = self.returned.values().collect();
        let clients = self.turns.values().filter_map(|key| self.clients.get(key));
        let mut round: Vec<_> = clients.map(|client| client.requests.values()).collect();
        while !round.is_empty() {
            round.retain_mut(|requests| match requests.next() {
                Some(request) => {
                    order.push(request);
                    true
                }
                None => false,
            });
        }
        order
    }
}
