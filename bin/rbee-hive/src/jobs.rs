use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use diagnostics::{Code, Diagnostic, Level, Narration};
use futures_util::{Stream, stream};
use hive_contract::{JobEvent, JobState, JobStatus};
use input_validation::JobId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker_lifecycle::Report;

use crate::events::Events;

/// Jobs that are remembered; the oldest finished one makes room.
const JOBS_LIMIT: usize = 256;
/// Events of a job that are kept; what comes after is left out and counted, except the end.
const EVENTS_LIMIT: usize = 1024;
/// How long a cancel waits for the job to end.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

/// The long operations of this hive, running and finished.
#[derive(Debug, Default)]
pub struct Jobs(Mutex<VecDeque<Arc<Job>>>);

/// One long operation and everything that it told.
#[derive(Debug)]
pub struct Job {
    id: JobId,
    kind: &'static str,
    cancel: CancellationToken,
    events: Mutex<JobLog>,
    /// How many events there are, for those who follow.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct JobLog {
    told: Vec<JobEvent>,
    left_out: u64,
}

impl JobLog {
    fn is_over(&self) -> bool {
        self.told.last().is_some_and(JobEvent::is_terminal)
    }

    fn push(&mut self, event: JobEvent) {
        if self.is_over() {
            return;
        }
        if !event.is_terminal() && self.told.len() >= EVENTS_LIMIT {
            self.left_out += 1;
            return;
        }
        if event.is_terminal() && self.left_out > 0 {
            self.told.push(JobEvent::Narration(Narration::warn(
                "hive",
                "left_out",
                format!("{} events were left out", self.left_out),
            )));
        }
        self.told.push(event);
    }
}

impl Jobs {
    /// Starts `work` in a task of its own. It gets a report for its events and a token that
    /// is cancelled when the job is. Refused when all remembered jobs still run.
    pub fn start<F, W>(
        &self,
        kind: &'static str,
        events: &Events,
        work: F,
    ) -> Result<Arc<Job>, Diagnostic>
    where
        F: FnOnce(Report, CancellationToken) -> W,
        W: Future<Output = Result<serde_json::Value, Diagnostic>> + Send + 'static,
    {
        let job = Arc::new(Job {
            id: format!("job-{}", Uuid::now_v7().simple()).parse()?,
            kind,
            cancel: CancellationToken::new(),
            events: Mutex::default(),
            count: watch::Sender::new(0),
        });
        self.remember(&job)?;
        let report: Report = Arc::new({
            let (job, events) = (Arc::clone(&job), events.clone());
            move |event: JobEvent| {
                if let JobEvent::Narration(narration) = &event {
                    events.narrate(narration.clone());
                }
                job.push(event);
            }
        });
        let task = tokio::spawn(work(report, job.cancel.clone()));
        let (running, events) = (Arc::clone(&job), events.clone());
        tokio::spawn(async move {
            let end = match task.await {
                Ok(Ok(result)) => JobEvent::Result(result),
                Ok(Err(e)) if e.code == Code::Cancelled => JobEvent::Cancelled {},
                Ok(Err(e)) => JobEvent::Error(e.correlated(running.id.as_str())),
                // A panic must not leave those who wait without an end.
                Err(e) => JobEvent::Error(
                    Diagnostic::internal(format!("the job broke: {e}"))
                        .correlated(running.id.as_str()),
                ),
            };
            if let JobEvent::Error(error) = &end {
                events.narrate(Narration {
                    level: Level::Error,
                    ..Narration::info("hive", kind, error.message.clone())
                });
            }
            running.push(end);
        });
        Ok(job)
    }

    fn remember(&self, job: &Arc<Job>) -> Result<(), Diagnostic> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= JOBS_LIMIT {
            let finished = jobs.iter().position(|job| job.is_over()).ok_or_else(|| {
                Diagnostic::new(
                    Code::QueueFull,
                    format!("{JOBS_LIMIT} operations are running on this hive"),
                )
                .hint("wait for one to end, or cancel one")
                .detail("retry_after_seconds", 5)
            })?;
            jobs.remove(finished);
        }
        jobs.push_back(Arc::clone(job));
        Ok(())
    }

    /// A job by name; only the last 256 are known.
    pub fn get(&self, id: &JobId) -> Result<Arc<Job>, Diagnostic> {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.iter()
            .find(|job| job.id == *id)
            .map(Arc::clone)
            .ok_or_else(|| {
                Diagnostic::new(Code::JobNotFound, format!("no job {id}")).hint(format!(
                    "a hive remembers its last {JOBS_LIMIT} jobs until it ends"
                ))
            })
    }
}

impl Job {
    /// The job's name.
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// Where it stands.
    pub fn status(&self) -> JobStatus {
        let log = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match log.told.last() {
            Some(JobEvent::Result(_)) => JobState::Succeeded,
            Some(JobEvent::Error(_)) => JobState::Failed,
            Some(JobEvent::Cancelled {}) => JobState::Cancelled,
            _ => JobState::Running,
        };
        JobStatus {
            id: self.id.clone(),
            kind: self.kind.to_owned(),
            state,
            events: log.told.len() as u64,
        }
    }

    /// Its events from the first to the terminal one, as they come.
    pub fn follow(self: &Arc<Self>) -> impl Stream<Item = JobEvent> + Send + use<> {
        let start = (Arc::clone(self), self.count.subscribe(), 0, false);
        stream::unfold(start, |(job, mut count, next, over)| async move {
            if over {
                return None;
            }
            count.wait_for(|count| *count > next).await.ok()?;
            let event = {
                let log = job.events.lock().unwrap_or_else(PoisonError::into_inner);
                log.told.get(next)?.clone()
            };
            let over = event.is_terminal();
            Some((event, (job, count, next + 1, over)))
        })
    }

    /// The terminal event, once there is one.
    pub async fn end(&self) -> JobEvent {
        let mut count = self.count.subscribe();
        // The sender lives as long as the job itself.
        let _ = count.wait_for(|_| self.is_over()).await;
        let log = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        log.told.last().cloned().unwrap_or(JobEvent::Cancelled {})
    }

    /// Cancels it and waits up to 2 s for its end; a job that is over stays as it is.
    pub async fn cancel(&self) {
        self.cancel.cancel();
        let _ = tokio::time::timeout(CANCEL_LIMIT, self.end()).await;
    }

    fn is_over(&self) -> bool {
        let log = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        log.is_over()
    }

    fn push(&self, event: JobEvent) {
        let count = {
            let mut log = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            log.push(event);
            log.told.len()
        };
        self.count.send_replace(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;
    use serde_json::json;

    fn narration(text: &str) -> JobEvent {
        JobEvent::Narration(Narration::info("hive", "test", text))
    }

    async fn all(job: &Arc<Job>) -> Vec<JobEvent> {
        job.follow().collect().await
    }

    #[tokio::test]
    async fn events_are_replayed_from_the_start_any_number_of_times() {
        let (jobs, events) = (Jobs::default(), Events::new());
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let job = jobs
            .start("test", &events, |report, _| async move {
                report(narration("one"));
                wait.await.unwrap();
                report(narration("two"));
                Ok(json!(3))
            })
            .unwrap();
        let mut live = Box::pin(job.follow());
        assert_eq!(live.next().await, Some(narration("one")));
        assert_eq!(job.status().state, JobState::Running);
        go.send(()).unwrap();
        let rest: Vec<_> = live.collect().await;
        assert_eq!(rest, [narration("two"), JobEvent::Result(json!(3))]);
        for _ in 0..2 {
            assert_eq!(all(&job).await.len(), 3);
        }
        assert_eq!(job.end().await, JobEvent::Result(json!(3)));
        assert_eq!(job.status().state, JobState::Succeeded);
        assert_eq!(jobs.get(job.id()).unwrap().status().events, 3);
    }

    #[tokio::test]
    async fn a_cancelled_job_ends_once() {
        let (jobs, events) = (Jobs::default(), Events::new());
        let job = jobs
            .start("test", &events, |_, cancel| async move {
                cancel.cancelled().await;
                Err(Diagnostic::new(Code::Cancelled, "cancelled"))
            })
            .unwrap();
        job.cancel().await;
        job.cancel().await;
        assert_eq!(all(&job).await, [JobEvent::Cancelled {}]);
        assert_eq!(job.status().state, JobState::Cancelled);
    }

    #[tokio::test]
    async fn a_job_that_panics_still_ends() {
        let (jobs, events) = (Jobs::default(), Events::new());
        let job = jobs
            .start("test", &events, |_, _| async move { panic!("on purpose") })
            .unwrap();
        let JobEvent::Error(error) = job.end().await else {
            panic!("not an error");
        };
        assert_eq!(error.code, Code::Internal);
        assert_eq!(error.correlation_id.as_deref(), Some(job.id().as_str()));
    }

    #[tokio::test]
    async fn too_many_events_are_counted_and_the_end_is_kept() {
        let (jobs, events) = (Jobs::default(), Events::new());
        let job = jobs
            .start("test", &events, |report, _| async move {
                for n in 0..EVENTS_LIMIT + 7 {
                    report(narration(&n.to_string()));
                }
                Ok(json!(null))
            })
            .unwrap();
        let told = all(&job).await;
        assert_eq!(told.len(), EVENTS_LIMIT + 2);
        assert!(format!("{:?}", told[EVENTS_LIMIT]).contains("7 events were left out"));
        assert!(told[EVENTS_LIMIT + 1].is_terminal());
    }

    #[tokio::test]
    async fn finished_jobs_make_room_and_running_ones_do_not() {
        let (jobs, events) = (Jobs::default(), Events::new());
        let forever = || {
            jobs.start("test", &events, |_, cancel| async move {
                cancel.cancelled().await;
                Err(Diagnostic::new(Code::Cancelled, ""))
            })
        };
        let all: Vec<_> = (0..JOBS_LIMIT).map(|_| forever().unwrap()).collect();
        assert_eq!(forever().unwrap_err().code, Code::QueueFull);
        all[3].cancel().await;
        forever().unwrap();
        assert_eq!(jobs.get(all[3].id()).unwrap_err().code, Code::JobNotFound);
        assert!(jobs.get(all[4].id()).is_ok());
    }
}
