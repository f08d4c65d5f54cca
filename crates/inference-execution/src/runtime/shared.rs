use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    thread::Thread,
    time::{Duration, Instant},
};

use diagnostics::{Code, Diagnostic};
use input_validation::RequestId;
use tokio::sync::watch;
use worker_contract::KvCacheUse;

/// What a runtime is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeStatus {
    /// Requests that can run at once.
    pub slots_total: u32,
    /// Requests that could start now.
    pub slots_free: u32,
    /// Requests that were accepted and wait for a slot or for room in the KV cache.
    pub queue_depth: u32,
    /// The KV cache, in tokens. What a request holds is used; what is only kept for requests
    /// that begin alike is not, since it makes room for any other.
    pub kv_cache: KvCacheUse,
    /// Nothing new is taken.
    pub draining: bool,
}

/// What a runtime has done since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuntimeCounts {
    /// Requests that ended with an answer.
    pub completed: u64,
    /// Requests that were cancelled or whose reader went away.
    pub cancelled: u64,
    /// Requests whose deadline passed.
    pub expired: u64,
    /// Requests that ended with another error.
    pub failed: u64,
    /// Tokens generated and sent.
    pub generated_tokens: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Of them, those that a cache had.
    pub cached_tokens: u64,
}

/// How a request ended, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Completed,
    Cancelled,
    Expired,
    Failed,
}

impl Outcome {
    pub fn of(error: &Diagnostic) -> Self {
        match error.code {
            Code::Cancelled => Self::Cancelled,
            Code::DeadlineExceeded => Self::Expired,
            _ => Self::Failed,
        }
    }
}

/// What the handles, the streams and the engine's thread have in common. The engine's
/// thread touches only the atomics.
#[derive(Debug)]
pub(super) struct Shared {
    slots: u32,
    /// Requests accepted at once: the slots and the queue.
    capacity: u32,
    kv_total: u64,
    started: Instant,
    accepted: AtomicU32,
    waiting: AtomicU32,
    kv_used: AtomicU64,
    /// When the last step was finished, in milliseconds since `started`, and one.
    stepped: AtomicU64,
    draining: AtomicBool,
    /// No handle is left: the thread ends when nothing runs.
    pub closing: AtomicBool,
    /// Everything that runs is to end with this error.
    pub ending: OnceLock<Diagnostic>,
    /// Why the engine is lost.
    pub failure: OnceLock<Diagnostic>,
    pub thread: OnceLock<Thread>,
    /// Counts up with every change of what [`RuntimeStatus`] says between ready, busy, idle,
    /// draining and lost.
    changes: watch::Sender<u64>,
    requests: Mutex<HashMap<RequestId, Weak<Ticket>>>,
    completed: AtomicU64,
    cancelled: AtomicU64,
    expired: AtomicU64,
    failed: AtomicU64,
    pub generated_tokens: AtomicU64,
    pub prompt_tokens: AtomicU64,
    pub cached_tokens: AtomicU64,
}

impl Shared {
    pub fn new(slots: u32, queue: u32, kv_total: u64) -> Self {
        Self {
            slots,
            capacity: slots.saturating_add(queue),
            kv_total,
            started: Instant::now(),
            accepted: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            kv_used: AtomicU64::new(0),
            stepped: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            ending: OnceLock::new(),
            failure: OnceLock::new(),
            thread: OnceLock::new(),
            changes: watch::Sender::new(0),
            requests: Mutex::default(),
            completed: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            generated_tokens: AtomicU64::new(0),
            prompt_tokens: AtomicU64::new(0),
            cached_tokens: AtomicU64::new(0),
        }
    }

    /// Requests accepted at once.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// A step is finished.
    pub fn stepped(&self) {
        let now = self.started.elapsed().as_millis() as u64;
        self.stepped.store(now + 1, SeqCst);
    }

    pub fn since_last_step(&self) -> Option<Duration> {
        let at = Duration::from_millis(self.stepped.load(SeqCst).checked_sub(1)?);
        Some(self.started.elapsed().saturating_sub(at))
    }

    /// The scheduler's clock.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    pub fn changed(&self) {
        self.changes.send_modify(|version| *version += 1);
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub fn status(&self) -> RuntimeStatus {
        RuntimeStatus {
            slots_total: self.slots,
            slots_free: self.slots.saturating_sub(self.accepted.load(SeqCst)),
            queue_depth: self.waiting.load(SeqCst),
            kv_cache: KvCacheUse {
                total: self.kv_total,
                used: self.kv_used.load(SeqCst),
            },
            draining: self.draining.load(SeqCst),
        }
    }

    pub fn counts(&self) -> RuntimeCounts {
        RuntimeCounts {
            completed: self.completed.load(SeqCst),
            cancelled: self.cancelled.load(SeqCst),
            expired: self.expired.load(SeqCst),
            failed: self.failed.load(SeqCst),
            generated_tokens: self.generated_tokens.load(SeqCst),
            prompt_tokens: self.prompt_tokens.load(SeqCst),
            cached_tokens: self.cached_tokens.load(SeqCst),
        }
    }

    pub fn show(&self, waiting: usize, kv_used: u64) {
        self.waiting.store(waiting as u32, SeqCst);
        self.kv_used.store(kv_used, SeqCst);
    }

    pub fn is_idle(&self) -> bool {
        self.accepted.load(SeqCst) == 0
    }

    pub fn drain(&self) {
        if !self.draining.swap(true, SeqCst) {
            self.changed();
        }
    }

    /// Takes one of the places for requests under the name `id`. Another answer to a request
    /// names that as its `first`.
    pub fn accept(
        self: &Arc<Self>,
        id: &RequestId,
        first: Option<&str>,
    ) -> Result<Arc<Ticket>, Diagnostic> {
        if let Some(failure) = self.failure.get() {
            return Err(failure.clone());
        }
        let before = self
            .accepted
            .fetch_update(SeqCst, SeqCst, |n| (n < self.capacity).then_some(n + 1))
            .map_err(|_| {
                Diagnostic::new(
                    Code::AllSlotsBusy,
                    format!("all {} slots are busy", self.slots),
                )
                .hint("try again when a request has ended, or run more replicas")
                .detail("slots", self.slots)
                .detail("retry_after_seconds", 1)
            })?;
        // From here on the ticket gives the place back when it is dropped.
        let ticket = Arc::new(Ticket {
            shared: self.clone(),
            first: first.map(str::to_owned),
            cancelled: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        if before + 1 == self.slots {
            self.changed();
        }
        // Looked at after the place was taken: whoever drains sees either the place taken
        // or this request refused.
        if self.draining.load(SeqCst) {
            return Err(Diagnostic::new(
                Code::Draining,
                "the worker finishes what runs and takes nothing new",
            )
            .hint("send the request to another worker"));
        }
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests
            .get(id)
            .and_then(Weak::upgrade)
            .is_some_and(|t| !t.has_ended())
        {
            return Err(Diagnostic::new(
                Code::DuplicateRequest,
                format!("a request named {id} is running"),
            )
            .hint("give every request a name of its own")
            .param("request_id"));
        }
        if requests.len() > 2 * self.capacity as usize {
            requests.retain(|_, ticket| ticket.strong_count() > 0);
        }
        requests.insert(id.clone(), Arc::downgrade(&ticket));
        Ok(ticket)
    }

    /// Cancels a request with all its answers; `false` when none of them runs.
    pub fn cancel(&self, id: &RequestId) -> bool {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = false;
        for (name, ticket) in requests.iter() {
            let Some(ticket) = ticket.upgrade().filter(|t| !t.has_ended()) else {
                continue;
            };
            if name == id || ticket.first.as_deref() == Some(id.as_str()) {
                ticket.cancelled.store(true, SeqCst);
                found = true;
            }
        }
        drop(requests);
        if found {
            self.wake();
        }
        found
    }

    fn release(&self) {
        let before = self.accepted.fetch_sub(1, SeqCst);
        if before == self.slots || before == 1 {
            self.changed();
        }
    }
}

/// A request's place among the slots.
#[derive(Debug)]
pub(super) struct Ticket {
    shared: Arc<Shared>,
    first: Option<String>,
    cancelled: AtomicBool,
    ended: AtomicBool,
}

impl Ticket {
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(SeqCst)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(SeqCst)
    }

    /// Counts how the request ended and frees its place; only the first call counts.
    pub fn end(&self, outcome: Outcome) {
        if self.ended.swap(true, SeqCst) {
            return;
        }
        let counter = match outcome {
            Outcome::Completed => &self.shared.completed,
            Outcome::Cancelled => &self.shared.cancelled,
            Outcome::Expired => &self.shared.expired,
            Outcome::Failed => &self.shared.failed,
        };
        counter.fetch_add(1, SeqCst);
        self.shared.release();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.ended.swap(true, SeqCst) {
            self.shared.release();
        }
    }
}
