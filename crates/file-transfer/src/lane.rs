//! Connections that receive the bytes of a transfer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    errors,
    limit::Limiter,
    plan::{Assignment, Lease, Plan},
    retry::{self, Attempts},
    source::{Failure, Opened, Source},
};
/// Time after which an idle connection looks for work again.
const IDLE: Duration = Duration::from_millis(100);

/// Bytes for the disk.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) offset: u64,
    pub(crate) bytes: Bytes,
}

/// What all lanes of a transfer share.
#[derive(Debug)]
pub(crate) struct Lanes {
    pub(crate) source: Arc<Source>,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) plan: Arc<Mutex<Plan>>,
    pub(crate) stops: Mutex<HashMap<Lease, CancellationToken>>,
    pub(crate) writes: mpsc::Sender<Write>,
    pub(crate) started: Instant,
    /// Version of the file.
    pub(crate) size: Option<u64>,
    pub(crate) etag: Option<String>,
    /// Whether the server serves ranges. If not, there is one lane.
    pub(crate) ranged: bool,
    /// Whether a body that ended early can be continued: the version of the file is known, or
    /// its hash.
    pub(crate) continues: bool,
    /// Time before the first new attempt.
    pub(crate) first_delay: Duration,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lanes {
    /// Receives bytes over one connection at a time until that fails for good. `first` has been
    /// requested already.
    pub(crate) async fn run(self: Arc<Self>, first: Option<(Assignment, Opened)>) -> Failure {
        let mut attempts = Attempts::default();
        let mut first = first;
        loop {
            let assigned = match first.take() {
                Some((assignment, opened)) => Some((assignment, Some(opened))),
                None => self.assign().map(|assignment| (assignment, None)),
            };
            let Some((assignment, opened)) = assigned else {
                tokio::time::sleep(IDLE).await;
                continue;
            };
            let mut received = false;
            let result = self.receive(&assignment, opened, &mut received).await;
            lock(&self.stops).remove(&assignment.lease);
            let Err(failure) = result else { continue };
            let arrived = {
                let mut plan = lock(&self.plan);
                plan.release(assignment.lease, self.started.elapsed());
                plan.arrived()
            };
            let Failure::Retry { error, after } = failure else {
                return failure;
            };
            let Some(failures) = attempts
                .failed(received, arrived)
                .filter(|_| self.continues)
            else {
                return Failure::Final(error);
            };
            let delay = retry::delay(failures, self.first_delay, random(), after);
            tokio::time::sleep(delay).await;
        }
    }

    /// Ends the request of a lease that has ended.
    pub(crate) fn stop(&self, lease: Lease) {
        if let Some(stop) = lock(&self.stops).remove(&lease) {
            stop.cancel();
        }
    }

    fn assign(&self) -> Option<Assignment> {
        let now = self.started.elapsed();
        let assignment = {
            let mut plan = lock(&self.plan);
            // More connections than the disk needs take time from it.
            if self.writes.capacity() == 0 && plan.connections() > 1 {
                return None;
            }
            if self.ranged {
                plan.assign(now)
            } else {
                plan.assign_rest(now)
            }
        }?;
        if let Some(replaced) = assignment.replaces {
            self.stop(replaced);
        }
        Some(assignment)
    }

    async fn receive(
        &self,
        assignment: &Assignment,
        opened: Option<Opened>,
        received: &mut bool,
    ) -> Result<(), Failure> {
        let stop = CancellationToken::new();
        lock(&self.stops).insert(assignment.lease, stop.clone());
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            result = self.stream(assignment, opened, received) => result,
        }
    }

    async fn stream(
        &self,
        assignment: &Assignment,
        opened: Option<Opened>,
        received: &mut bool,
    ) -> Result<(), Failure> {
        let opened = match opened {
            Some(opened) => opened,
            None => self.source.open(Some(assignment.range.clone())).await?,
        };
        self.check(&opened)?;
        let mut response = opened.response;
        let url = response.url().clone();
        let mut skip = assignment.range.start - opened.content.range.start;
        let failed = |reason: &str| {
            let host = errors::show_host(&url);
            Failure::retry(errors::failed(format!(
                "the body from {host} failed: {reason}"
            )))
        };
        loop {
            let chunk = tokio::time::timeout(self.source.stall(), response.chunk())
                .await
                .map_err(|_| self.source.stalled(&url))?
                .map_err(|e| failed(&errors::chain(&e)))?;
            let Some(mut chunk) = chunk else {
                if self.size.is_none() {
                    lock(&self.plan).end_of_file(assignment.lease);
                    // An empty write lets the writer see that the file is complete.
                    self.write(0, Bytes::new()).await;
                    return Ok(());
                }
                return Err(failed("it ended early"));
            };
            self.limiter.take(chunk.len()).await;
            let skipped = skip.min(chunk.len() as u64);
            chunk.advance(skipped as usize);
            skip -= skipped;
            if chunk.is_empty() {
                continue;
            }
            let now = self.started.elapsed();
            let accepted = lock(&self.plan).receive(assignment.lease, chunk.len(), now);
            *received = true;
            chunk.truncate(accepted.take);
            if !chunk.is_empty() {
                self.write(accepted.offset, chunk).await;
            }
            if accepted.ended {
                return Ok(());
            }
        }
    }

    /// Checks that a response is of the version of the file that the transfer began with.
    fn check(&self, opened: &Opened) -> Result<(), Failure> {
        let content = &opened.content;
        let differs = |a: Option<&str>, b: Option<&str>| a.zip(b).is_some_and(|(a, b)| a != b);
        if differs(content.etag.as_deref(), self.etag.as_deref())
            || content.size.zip(self.size).is_some_and(|(a, b)| a != b)
        {
            return Err(Failure::Changed);
        }
        if self.ranged && !content.ranged {
            return Err(Failure::retry(errors::failed(format!(
                "{} sent the whole file instead of a part of it",
                errors::show_host(self.source.url())
            ))));
        }
        Ok(())
    }

    async fn write(&self, offset: u64, bytes: Bytes) {
        let write = Write { offset, bytes };
        if self.writes.send(write).await.is_err() {
            // The writer failed, which ends the transfer.
            std::future::pending::<()>().await;
        }
    }
}

/// Returns a random number in `0.0..1.0`.
pub(crate) fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / (f64::from(u32::MAX) + 1.0)
}
