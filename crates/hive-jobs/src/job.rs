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
/// the terminal one.
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
    /// Number of kept events. Wakes those who follow.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct EventLog {
    events: Vec<JobEvent>,
    dropped: u64,
}

impl EventLog {
    fn is_finished(&self) -> bool {
        self.events.last().is_some_and(JobEvent::is_terminal)
    }

    fn push(&mut self, event: JobEvent) {
        if self.is_finished() {
            return;
        }
        if !event.is_terminal() && self.events.len() >= EVENTS_KEPT {
            self.dropped += 1;
            return;
        }
        if event.is_terminal() && self.dropped > 0 {
            self.events.push(JobEvent::Narration(Narration::warn(
                "hive",
                "left_out",
                format!("{} events were dropped", self.dropped),
            )));
        }
        self.events.push(event);
    }
}

impl Job {
    pub(crate) fn new(id: JobId, kind: &'static str) -> Self {
        Self {
            id,
            kind,
            cancel: CancellationToken::new(),
            log: Mutex::default(),
            count: watch::Sender::new(0),
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
        let state = match log.events.last() {
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

    /// The events from the first to the terminal one, as they come.
    pub fn events(self: &Arc<Self>) -> impl Stream<Item = JobEvent> + Send + use<> {
        let start = (Arc::clone(self), self.count.subscribe(), 0, false);
        stream::unfold(start, |(job, mut count, next, finished)| async move {
            if finished {
                return None;
            }
            count.wait_for(|count| *count > next).await.ok()?;
            let event = job.log().events.get(next)?.clone();
            let finished = event.is_terminal();
            Some((event, (job, count, next + 1, finished)))
        })
    }

    /// Waits for the terminal event.
    pub async fn finished(&self) -> JobEvent {
        let mut count = self.count.subscribe();
        // Cannot fail: the job owns the sender.
        let _ = count.wait_for(|_| self.is_finished()).await;
        let last = self.log().events.last().cloned();
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
        let count = {
            let mut log = self.log();
            log.push(event);
            log.events.len()
        };
        self.count.send_replace(count);
    }

    fn log(&self) -> MutexGuard<'_, EventLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
