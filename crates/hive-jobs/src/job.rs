use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use diagnostics::Narration;
use futures_util::{Stream, stream};
use hive_contract::{JobEvent, JobState, JobStatus};
use input_validation::JobId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Number of events of a job that are kept. Later events are dropped and counted, except for
/// the terminal one and progress that takes the place of earlier progress.
pub(crate) const EVENTS_KEPT: usize = 1024;
/// Time that a cancelled job has to finish before [`Job::cancel`] returns.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

/// One long operation and its events.
#[derive(Debug)]
pub struct Job {
    id: JobId,
    kind: &'static str,
    cancel: CancellationToken,
    log: Mutex<EventLog>,
    /// Number of the newest event. Wakes those who follow.
    newest: watch::Sender<u64>,
}

/// The events with ascending numbers, the first of which is 1.
#[derive(Debug, Default)]
struct EventLog {
    events: Vec<(u64, JobEvent)>,
    newest: u64,
    dropped: u64,
}

impl EventLog {
    fn last(&self) -> Option<&JobEvent> {
        self.events.last().map(|(_, event)| event)
    }

    fn is_finished(&self) -> bool {
        self.last().is_some_and(JobEvent::is_terminal)
    }

    fn push(&mut self, event: JobEvent) {
        if self.is_finished() {
            return;
        }
        self.remove_superseded(&event);
        if !event.is_terminal() && self.events.len() >= EVENTS_KEPT {
            self.dropped += 1;
            return;
        }
        if event.is_terminal() && self.dropped > 0 {
            self.append(JobEvent::Narration(Narration::warn(
                "hive",
                "left_out",
                format!("{} events were dropped", self.dropped),
            )));
        }
        self.append(event);
    }

    fn append(&mut self, event: JobEvent) {
        self.newest += 1;
        self.events.push((self.newest, event));
    }

    /// Removes earlier progress of the same phase and item, unless something else happened
    /// since: a reader needs the newest progress only, and a long transfer reports many.
    fn remove_superseded(&mut self, event: &JobEvent) {
        let JobEvent::Progress(newer) = event else {
            return;
        };
        let recent = self.events.iter().enumerate().rev();
        let superseded = recent
            .map_while(|(index, (_, event))| match event {
                JobEvent::Progress(progress) => Some((index, progress)),
                _ => None,
            })
            .find(|(_, older)| older.phase == newer.phase && older.item == newer.item);
        if let Some((index, _)) = superseded {
            self.events.remove(index);
        }
    }

    /// The first event after the one with this number.
    fn after(&self, number: u64) -> Option<(u64, JobEvent)> {
        let index = self.events.partition_point(|(n, _)| *n <= number);
        self.events.get(index).cloned()
    }
}

impl Job {
    pub(crate) fn new(id: JobId, kind: &'static str) -> Self {
        Self {
            id,
            kind,
            cancel: CancellationToken::new(),
            log: Mutex::default(),
            newest: watch::Sender::new(0),
        }
    }

    pub fn id(&self) -> &JobId {
        &self.id
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(crate) fn cancel_token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// State and number of events.
    pub fn status(&self) -> JobStatus {
        let log = self.log();
        let state = match log.last() {
            Some(JobEvent::Result(_)) => JobState::Succeeded,
            Some(JobEvent::Error(_)) => JobState::Failed,
            Some(JobEvent::Cancelled {}) => JobState::Cancelled,
            _ => JobState::Running,
        };
        JobStatus {
            id: self.id.clone(),
            kind: self.kind.to_owned(),
            state,
            events: log.events.len() as u64,
        }
    }

    /// The events from the first to the terminal one, as they come. Progress that was superseded
    /// before it was read is left out.
    pub fn events(self: &Arc<Self>) -> impl Stream<Item = JobEvent> + Send + use<> {
        let start = (Arc::clone(self), self.newest.subscribe(), 0, false);
        stream::unfold(start, |(job, mut newest, read, finished)| async move {
            if finished {
                return None;
            }
            newest.wait_for(|newest| *newest > read).await.ok()?;
            let (number, event) = job.log().after(read)?;
            let finished = event.is_terminal();
            Some((event, (job, newest, number, finished)))
        })
    }

    /// Waits for the terminal event.
    pub async fn finished(&self) -> JobEvent {
        let mut newest = self.newest.subscribe();
        // Cannot fail: the job owns the sender.
        let _ = newest.wait_for(|_| self.is_finished()).await;
        let last = self.log().last().cloned();
        last.unwrap_or(JobEvent::Cancelled {})
    }

    /// Cancels the job and waits up to 2 s until it has finished. Does nothing if it already
    /// has.
    pub async fn cancel(&self) {
        self.cancel.cancel();
        let _ = tokio::time::timeout(CANCEL_LIMIT, self.finished()).await;
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.log().is_finished()
    }

    pub(crate) fn push(&self, event: JobEvent) {
        let newest = {
            let mut log = self.log();
            log.push(event);
            log.newest
        };
        self.newest.send_replace(newest);
    }

    fn log(&self) -> MutexGuard<'_, EventLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
