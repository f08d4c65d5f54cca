//! Threads that write, hash and sync a partial file.

use std::{
    ops::Range,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use diagnostics::Diagnostic;
use tokio::sync::{Notify, mpsc};

use crate::{
    journal::Journal,
    lane::{Write, lock},
    part::{Hashing, Part},
    plan::Plan,
};

/// Writes that are journaled together.
const BATCH: usize = 32;
/// Bytes that are hashed before the thread sees that it should stop.
const HASH_STEP: u64 = 8 << 20;

/// What the threads of a transfer share.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) part: Part,
    pub(crate) plan: Arc<Mutex<Plan>>,
    /// `None` if the version of the file is not known: nothing can be continued later.
    pub(crate) journal: Mutex<Option<Journal>>,
    pub(crate) hashable: Hashable,
    /// Notified when all bytes are written.
    pub(crate) complete: Notify,
}

impl Disk {
    /// Writes until all senders are gone.
    pub(crate) fn write(&self, mut writes: mpsc::Receiver<Write>) -> Result<(), Diagnostic> {
        let mut batch = Vec::with_capacity(BATCH);
        while writes.blocking_recv_many(&mut batch, BATCH) > 0 {
            let mut written: Vec<Range<u64>> = Vec::with_capacity(BATCH);
            for write in batch.drain(..) {
                self.part.write(&write.bytes, write.offset)?;
                let end = write.offset + write.bytes.len() as u64;
                match written.last_mut() {
                    Some(last) if last.end == write.offset => last.end = end,
                    _ => written.push(write.offset..end),
                }
            }
            self.note(&written)?;
        }
        Ok(())
    }

    fn note(&self, written: &[Range<u64>]) -> Result<(), Diagnostic> {
        let mut journal = lock(&self.journal);
        if let Some(journal) = journal.as_mut() {
            journal.append(written)?;
        }
        let mut plan = lock(&self.plan);
        for range in written {
            plan.written(range.clone());
        }
        self.hashable.advance(plan.on_disk().prefix());
        if plan.is_complete() {
            self.complete.notify_one();
        }
        Ok(())
    }

    /// Hashes the bytes from the beginning as they are written. `None` if it was stopped.
    pub(crate) fn hash(&self) -> Result<Option<[u8; 32]>, Diagnostic> {
        let mut hashing = Hashing::new();
        let mut at = 0;
        while let Some((end, is_last)) = self.hashable.wait(at) {
            while at < end {
                if self.hashable.is_stopped() {
                    return Ok(None);
                }
                at = end.min(at + HASH_STEP);
                hashing.advance(&self.part.file, &self.part.paths.part, at)?;
            }
            if is_last {
                return Ok(Some(hashing.finish()));
            }
        }
        Ok(None)
    }

    /// Lets the journal say which bytes survive a loss of power.
    pub(crate) fn checkpoint(&self) -> Result<(), Diagnostic> {
        let synced = lock(&self.plan).on_disk().clone();
        self.part.sync()?;
        let mut journal = lock(&self.journal);
        let Some(journal) = journal.as_mut() else {
            return Ok(());
        };
        let written = lock(&self.plan).on_disk().clone();
        journal.replace(&synced, &written)
    }

    pub(crate) fn journal_is_long(&self) -> bool {
        lock(&self.journal).as_ref().is_some_and(Journal::is_long)
    }
}

/// How far the bytes from the beginning can be hashed.
#[derive(Debug, Default)]
pub(crate) struct Hashable {
    state: Mutex<HashableState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct HashableState {
    end: u64,
    is_last: bool,
    stopped: bool,
}

impl Hashable {
    /// The bytes up to `end` are there.
    pub(crate) fn new(end: u64) -> Self {
        let hashable = Self::default();
        hashable.advance(end);
        hashable
    }

    fn advance(&self, end: u64) {
        self.change(|state| state.end = end);
    }

    /// Says that the file has no more bytes.
    pub(crate) fn finish(&self, size: u64) {
        self.change(|state| {
            state.end = size;
            state.is_last = true;
        });
    }

    /// Stops the hashing thread.
    pub(crate) fn stop(&self) {
        self.change(|state| state.stopped = true);
    }

    fn change(&self, change: impl FnOnce(&mut HashableState)) {
        change(&mut lock(&self.state));
        self.changed.notify_one();
    }

    fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }

    /// Waits for bytes after `at`, or the end of the file. `None` if stopped.
    fn wait(&self, at: u64) -> Option<(u64, bool)> {
        let state = lock(&self.state);
        let state = self
            .changed
            .wait_while(state, |state| {
                !state.stopped && !state.is_last && state.end <= at
            })
            .unwrap_or_else(PoisonError::into_inner);
        (!state.stopped).then_some((state.end, state.is_last))
    }
}
