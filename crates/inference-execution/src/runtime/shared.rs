use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    thread::Thread,
    time::{Duration, Instant},
};

use diagnostics::Diagnostic;
use input_validation::RequestId;
use tokio::sync::watch;
use worker_contract::KvCacheUse;

use super::counters::{Counters, RequestEnd};
use crate::errors;

/// Current load of a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeStatus {
    /// Maximum number of running requests.
    pub slots_total: u32,
    /// Number of requests that could start now.
    pub slots_free: u32,
    /// Number of accepted requests that wait for a slot or for room in the KV cache.
    pub queue_depth: u32,
    /// Use of the KV cache in tokens. Blocks that are only cached do not count as used.
    pub kv_cache: KvCacheUse,
    /// Whether new requests are refused.
    pub draining: bool,
}

/// State shared by handles, streams and the engine thread.
#[derive(Debug)]
pub struct Shared {
    slots: u32,
    /// Maximum number of open requests: slots and queue.
    capacity: u32,
    kv_tokens: u64,
    open: Mutex<OpenRequests>,
    waiting: AtomicU32,
    kv_used: AtomicU64,
    started: Instant,
    /// Time of the last completed step, in milliseconds since `started`, plus one. 0 before the
    /// first step.
    last_step: AtomicU64,
    /// All handles are dropped; the engine thread exits when no request is open.
    closing: AtomicBool,
    /// Error that all open requests must end with.
    abort_reason: OnceLock<Diagnostic>,
    /// Error that the engine was lost with.
    failure: OnceLock<Diagnostic>,
    engine_thread: OnceLock<Thread>,
    /// Incremented when the runtime becomes busy, ready, idle, draining or lost.
    changes: watch::Sender<u64>,
    pub counters: Counters,
}

/// Requests that were accepted and have not ended.
#[derive(Debug, Default)]
struct OpenRequests {
    by_id: HashMap<RequestId, OpenRequest>,
    draining: bool,
}

#[derive(Debug)]
struct OpenRequest {
    cancelled: Arc<AtomicBool>,
    /// Id of the request's first choice, if this is another choice.
    first_choice: Option<String>,
}

impl Shared {
    pub fn new(slots: u32, queue: u32, kv_tokens: u64) -> Self {
        Self {
            slots,
            capacity: slots.saturating_add(queue),
            kv_tokens,
            open: Mutex::default(),
            waiting: AtomicU32::new(0),
            kv_used: AtomicU64::new(0),
            started: Instant::now(),
            last_step: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            abort_reason: OnceLock::new(),
            failure: OnceLock::new(),
            engine_thread: OnceLock::new(),
            changes: watch::Sender::new(0),
            counters: Counters::default(),
        }
    }

    fn open(&self) -> MutexGuard<'_, OpenRequests> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    pub fn status(&self) -> RuntimeStatus {
        let open = self.open();
        RuntimeStatus {
            slots_total: self.slots,
            slots_free: self.slots.saturating_sub(open.by_id.len() as u32),
            queue_depth: self.waiting.load(SeqCst),
            kv_cache: KvCacheUse {
                total: self.kv_tokens,
                used: self.kv_used.load(SeqCst),
            },
            draining: open.draining,
        }
    }

    pub fn set_load(&self, waiting: usize, kv_used: u64) {
        self.waiting.store(waiting as u32, SeqCst);
        self.kv_used.store(kv_used, SeqCst);
    }

    pub fn is_idle(&self) -> bool {
        self.open().by_id.is_empty()
    }

    pub fn record_step(&self) {
        let now = self.started.elapsed().as_millis() as u64;
        self.last_step.store(now + 1, SeqCst);
    }

    pub fn since_last_step(&self) -> Option<Duration> {
        let at = Duration::from_millis(self.last_step.load(SeqCst).checked_sub(1)?);
        Some(self.started.elapsed().saturating_sub(at))
    }

    pub fn set_engine_thread(&self, thread: Thread) {
        let _ = self.engine_thread.set(thread);
    }

    pub fn wake_engine(&self) {
        if let Some(thread) = self.engine_thread.get() {
            thread.unpark();
        }
    }

    pub fn close(&self) {
        self.closing.store(true, SeqCst);
        self.wake_engine();
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(SeqCst)
    }

    pub fn drain(&self) {
        let was_draining = std::mem::replace(&mut self.open().draining, true);
        if !was_draining {
            self.notify();
        }
    }

    /// Drains and ends all open requests with `reason`. Only the first reason counts.
    pub fn abort(&self, reason: Diagnostic) {
        self.drain();
        let _ = self.abort_reason.set(reason);
        self.wake_engine();
        self.notify();
    }

    pub fn abort_reason(&self) -> Option<&Diagnostic> {
        self.abort_reason.get()
    }

    pub fn set_failure(&self, error: Diagnostic) {
        let _ = self.failure.set(error);
    }

    pub fn failure(&self) -> Option<&Diagnostic> {
        self.failure.get()
    }

    /// Returns the error for a request whose channel to or from the engine thread closed.
    pub fn engine_error(&self) -> Diagnostic {
        let failure = self.failure.get().cloned();
        failure.unwrap_or_else(errors::engine_exited)
    }

    pub fn notify(&self) {
        self.changes.send_modify(|version| *version += 1);
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Opens a request. `first_choice` is the id of the request's first choice, if this is
    /// another choice.
    pub fn accept(
        self: &Arc<Self>,
        id: &RequestId,
        first_choice: Option<&str>,
    ) -> Result<Ticket, Diagnostic> {
        if let Some(failure) = self.failure.get() {
            return Err(failure.clone());
        }
        let mut open = self.open();
        // First: no slot of it will be free again.
        if open.draining {
            return Err(errors::draining());
        }
        if open.by_id.len() >= self.capacity as usize {
            return Err(errors::all_slots_busy(self.slots));
        }
        if open.by_id.contains_key(id) {
            return Err(errors::duplicate_request(id));
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let request = OpenRequest {
            cancelled: cancelled.clone(),
            first_choice: first_choice.map(str::to_owned),
        };
        open.by_id.insert(id.clone(), request);
        let became_busy = open.by_id.len() == self.slots as usize;
        drop(open);
        if became_busy {
            self.notify();
        }
        Ok(Ticket {
            shared: self.clone(),
            id: id.clone(),
            cancelled,
        })
    }

    /// Cancels a request and its other choices. Returns whether any of them is open.
    pub fn cancel(&self, id: &RequestId) -> bool {
        let mut found = false;
        for (open_id, request) in &self.open().by_id {
            if open_id == id || request.first_choice.as_deref() == Some(id.as_str()) {
                request.cancelled.store(true, SeqCst);
                found = true;
            }
        }
        if found {
            self.wake_engine();
            self.notify();
        }
        found
    }

    fn release(&self, id: &RequestId) {
        let mut open = self.open();
        let before = open.by_id.len();
        open.by_id.remove(id);
        drop(open);
        if before == self.slots as usize || before == 1 {
            self.notify();
        }
    }
}

/// An open request. Dropping it frees its slot.
#[derive(Debug)]
pub struct Ticket {
    shared: Arc<Shared>,
    id: RequestId,
    cancelled: Arc<AtomicBool>,
}

impl Ticket {
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(SeqCst)
    }

    /// Counts how the request ended and frees its slot.
    pub fn end(self, end: RequestEnd) {
        self.shared.counters.request_ended(end);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.release(&self.id);
    }
}
