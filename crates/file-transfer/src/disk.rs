//! Threads that write, hash and sync a partial file.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use bytes::Bytes;
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
/// Bytes in memory that wait to be hashed.
const HELD: usize = 8 << 20;

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
            for write in &batch {
                self.part.write(&write.bytes, write.offset)?;
                let end = write.offset + write.bytes.len() as u64;
                match written.last_mut() {
                    Some(last) if last.end == write.offset => last.end = end,
                    _ => written.push(write.offset..end),
                }
            }
            self.note(&written, batch.drain(..))?;
        }
        Ok(())
    }

    fn note(
        &self,
        written: &[Range<u64>],
        writes: impl Iterator<Item = Write>,
    ) -> Result<(), Diagnostic> {
        let mut journal = lock(&self.journal);
        if let Some(journal) = journal.as_mut() {
            journal.append(written)?;
        }
        let mut plan = lock(&self.plan);
        for range in written {
            plan.written(range.clone());
        }
        self.hashable.advance(plan.on_disk().prefix(), writes);
        if plan.is_complete() {
            self.complete.notify_one();
        }
        Ok(())
    }

    /// Hashes the bytes from the beginning as they are written. `None` if it was stopped.
    pub(crate) fn hash(&self) -> Result<Option<[u8; 32]>, Diagnostic> {
        let mut hashing = Hashing::new();
        loop {
            match self.hashable.next() {
                Next::Memory(bytes) => hashing.update(&bytes),
                Next::File(end) => {
                    hashing.advance(&self.part.file, &self.part.paths.part, end)?;
                }
                Next::Finished => return Ok(Some(hashing.finish())),
                Next::Stopped => return Ok(None),
            }
        }
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

/// What to hash next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// These bytes.
    Memory(Bytes),
    /// The bytes of the file up to here.
    File(u64),
    Finished,
    Stopped,
}

/// How far the bytes from the beginning can be hashed. Those that were written just now, in
/// order, need not be read again.
#[derive(Debug, Default)]
pub(crate) struct Hashable {
    state: Mutex<HashableState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct HashableState {
    /// The bytes up to here are on disk.
    end: u64,
    /// The bytes up to here are hashed, or among `pieces`.
    taken: u64,
    pieces: VecDeque<Bytes>,
    /// Bytes of `pieces`.
    held: usize,
    is_last: bool,
    stopped: bool,
}

impl HashableState {
    fn keep(&mut self, write: Write) {
        let follows = write.offset == self.taken && !write.bytes.is_empty();
        if follows && self.held + write.bytes.len() <= HELD {
            self.taken += write.bytes.len() as u64;
            self.held += write.bytes.len();
            self.pieces.push_back(write.bytes);
        }
    }

    /// `None` if it must be waited for.
    fn next(&mut self) -> Option<Next> {
        if self.stopped {
            return Some(Next::Stopped);
        }
        if let Some(piece) = self.pieces.pop_front() {
            self.held -= piece.len();
            return Some(Next::Memory(piece));
        }
        if self.taken < self.end {
            self.taken = self.end.min(self.taken + HASH_STEP);
            return Some(Next::File(self.taken));
        }
        self.is_last.then_some(Next::Finished)
    }
}

impl Hashable {
    /// The bytes up to `end` are there.
    pub(crate) fn new(end: u64) -> Self {
        let hashable = Self::default();
        hashable.advance(end, []);
        hashable
    }

    /// The bytes up to `end` are on disk now, because of `writes`.
    fn advance(&self, end: u64, writes: impl IntoIterator<Item = Write>) {
        self.change(|state| {
            for write in writes {
                state.keep(write);
            }
            state.end = end;
        });
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

    fn next(&self) -> Next {
        let mut state = lock(&self.state);
        loop {
            if let Some(next) = state.next() {
                return next;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64, length: usize) -> Write {
        Write {
            offset,
            bytes: vec![7; length].into(),
        }
    }

    fn memory(length: usize) -> Next {
        Next::Memory(vec![7; length].into())
    }

    #[test]
    fn bytes_in_order_are_hashed_from_memory_and_others_from_the_file() {
        let mut state = HashableState::default();
        assert_eq!(state.next(), None);
        for (offset, length) in [(0, 10), (20, 5), (10, 2)] {
            state.keep(write(offset, length));
        }
        state.end = 12;
        assert_eq!(
            [state.next(), state.next()],
            [Some(memory(10)), Some(memory(2))]
        );
        assert_eq!(state.next(), None, "20..25 is not kept");
        state.end = 25;
        assert_eq!(state.next(), Some(Next::File(25)));
        state.keep(write(25, 1));
        state.end = 26;
        assert_eq!([state.next(), state.next()], [Some(memory(1)), None]);
        state.is_last = true;
        assert_eq!(state.next(), Some(Next::Finished));
        state.stopped = true;
        assert_eq!(state.next(), Some(Next::Stopped));
    }

    #[test]
    fn the_bytes_that_are_kept_are_limited() {
        let mut state = HashableState::default();
        for n in 0..3 {
            state.keep(write(n * (HELD as u64 / 2), HELD / 2));
        }
        state.end = HELD as u64 * 3 / 2;
        assert_eq!(
            [state.next(), state.next()],
            [Some(memory(HELD / 2)), Some(memory(HELD / 2))]
        );
        assert_eq!(
            state.next(),
            Some(Next::File(state.end.min(HELD as u64 + HASH_STEP)))
        );
    }
}
