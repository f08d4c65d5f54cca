use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use diagnostics::{Code, Diagnostic, Level, Narration};
use hive_contract::JobEvent;
use input_validation::JobId;
use serde::Serialize;
use uuid::Uuid;

use crate::{JOBS_KEPT, Job, JobContext, NodeEvents, Reporter, errors};

/// The jobs of this hive, running and finished.
#[derive(Debug)]
pub struct JobRegistry {
    node_events: NodeEvents,
    jobs: Mutex<VecDeque<Arc<Job>>>,
}

impl JobRegistry {
    /// A registry without jobs. The narration of its jobs is published to `node_events`, and so
    /// are their errors.
    pub fn new(node_events: NodeEvents) -> Self {
        Self {
            node_events,
            jobs: Mutex::default(),
        }
    }

    /// Starts an operation as a job. `QUEUE_FULL` if 256 jobs are running.
    pub fn start<F, W, T>(&self, kind: &'static str, operation: F) -> Result<Arc<Job>, Diagnostic>
    where
        F: FnOnce(JobContext) -> W,
        W: Future<Output = Result<T, Diagnostic>> + Send + 'static,
        T: Serialize + Send + 'static,
    {
        let job = self.add(kind)?;
        self.run(&job, operation);
        Ok(job)
    }

    /// Starts an operation that cannot be found by its id.
    pub(crate) fn start_unlisted<F, W, T>(
        &self,
        kind: &'static str,
        operation: F,
    ) -> Result<Arc<Job>, Diagnostic>
    where
        F: FnOnce(JobContext) -> W,
        W: Future<Output = Result<T, Diagnostic>> + Send + 'static,
        T: Serialize + Send + 'static,
    {
        let job = new_job(kind)?;
        self.run(&job, operation);
        Ok(job)
    }

    /// Adds a job without an operation.
    pub(crate) fn add(&self, kind: &'static str) -> Result<Arc<Job>, Diagnostic> {
        let job = new_job(kind)?;
        self.keep(&job)?;
        Ok(job)
    }

    fn run<F, W, T>(&self, job: &Arc<Job>, operation: F)
    where
        F: FnOnce(JobContext) -> W,
        W: Future<Output = Result<T, Diagnostic>> + Send + 'static,
        T: Serialize + Send + 'static,
    {
        let task = tokio::spawn(operation(JobContext {
            reporter: self.reporter(job),
            cancel: job.cancel_token().clone(),
        }));
        let (running, node_events) = (Arc::clone(job), self.node_events.clone());
        tokio::spawn(async move {
            let result = match task.await {
                Ok(result) => {
                    result.and_then(|done| serde_json::to_value(done).map_err(Diagnostic::internal))
                }
                Err(panic) => Err(errors::panicked(&panic)),
            };
            finish(&running, &node_events, result);
        });
    }

    /// Sends events to the job, and narration to all subscribers of the node as well.
    fn reporter(&self, job: &Arc<Job>) -> Reporter {
        let (job, node_events) = (Arc::clone(job), self.node_events.clone());
        Reporter::new(move |event| {
            if let JobEvent::Narration(narration) = &event {
                node_events.publish(narration.clone());
            }
            job.push(event);
        })
    }

    fn keep(&self, job: &Arc<Job>) -> Result<(), Diagnostic> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= JOBS_KEPT {
            let finished = jobs
                .iter()
                .position(|job| job.is_finished())
                .ok_or_else(errors::too_many_jobs)?;
            jobs.remove(finished);
        }
        jobs.push_back(Arc::clone(job));
        Ok(())
    }

    /// The kinds of the jobs that are running, in the order of their starts.
    pub fn running(&self) -> Vec<&'static str> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let running = jobs.iter().filter(|job| !job.is_finished());
        running.map(|job| job.kind()).collect()
    }

    /// The job with this id. `JOB_NOT_FOUND` if there is none, or if it is no longer kept.
    pub fn get(&self, id: &JobId) -> Result<Arc<Job>, Diagnostic> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let job = jobs.iter().find(|job| job.id() == id);
        job.map(Arc::clone).ok_or_else(|| errors::job_not_found(id))
    }
}

fn new_job(kind: &'static str) -> Result<Arc<Job>, Diagnostic> {
    let id = format!("job-{}", Uuid::now_v7().simple()).parse()?;
    Ok(Arc::new(Job::new(id, kind)))
}

fn finish(job: &Job, node_events: &NodeEvents, result: Result<serde_json::Value, Diagnostic>) {
    let event = match result {
        Ok(result) => JobEvent::Result(result),
        Err(error) if error.code == Code::Cancelled => JobEvent::Cancelled {},
        Err(error) => {
            node_events.publish(Narration {
                level: Level::Error,
                ..Narration::info("hive", job.kind(), error.message.clone())
            });
            JobEvent::Error(error.correlation_id(job.id().as_str()))
        }
    };
    job.push(event);
}

#[cfg(test)]
mod tests {
    use diagnostics::Narration;
    use futures_util::StreamExt as _;
    use hive_contract::{JobState, Progress};
    use serde_json::json;

    use super::*;
    use crate::job::EVENTS_KEPT;

    fn registry() -> JobRegistry {
        JobRegistry::new(NodeEvents::default())
    }

    fn narration(text: &str) -> JobEvent {
        JobEvent::Narration(Narration::info("hive", "test", text))
    }

    async fn all(job: &Arc<Job>) -> Vec<JobEvent> {
        job.events().collect().await
    }

    /// An operation that runs until it is cancelled.
    async fn until_cancelled(context: JobContext) -> Result<(), Diagnostic> {
        context.phase("it", None, std::future::pending()).await
    }

    #[tokio::test]
    async fn events_are_replayed_from_the_start_any_number_of_times() {
        let jobs = registry();
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let job = jobs
            .start("test", |context| async move {
                context.reporter.info("test", "one");
                wait.await.unwrap();
                context.reporter.info("test", "two");
                Ok(3)
            })
            .unwrap();
        let mut live = Box::pin(job.events());
        assert_eq!(live.next().await, Some(narration("one")));
        assert_eq!(job.status().state, JobState::Running);
        go.send(()).unwrap();
        let rest: Vec<_> = live.collect().await;
        assert_eq!(rest, [narration("two"), JobEvent::Result(json!(3))]);
        for _ in 0..2 {
            assert_eq!(all(&job).await.len(), 3);
        }
        assert_eq!(job.finished().await, JobEvent::Result(json!(3)));
        assert_eq!(job.status().state, JobState::Succeeded);
        assert_eq!(jobs.get(job.id()).unwrap().status().events, 3);
    }

    #[tokio::test]
    async fn narration_and_errors_of_a_job_are_events_of_the_node() {
        let events = NodeEvents::default();
        let mut subscriber = Box::pin(events.subscribe());
        let job = JobRegistry::new(events)
            .start("test", |context| async move {
                context.reporter.info("load", "half way");
                Err::<(), _>(Diagnostic::new(Code::DiskFull, "no space"))
            })
            .unwrap();
        let half_way = Narration::info("hive", "load", "half way");
        assert_eq!(subscriber.next().await, Some(half_way));
        let error = subscriber.next().await.unwrap();
        assert_eq!((error.action.as_str(), error.level), ("test", Level::Error));
        assert_eq!(error.message, "no space");
        let error = Diagnostic::new(Code::DiskFull, "no space").correlation_id(job.id().as_str());
        assert_eq!(job.finished().await, JobEvent::Error(error));
        assert_eq!(job.status().state, JobState::Failed);
    }

    #[tokio::test]
    async fn a_cancelled_job_finishes_once() {
        let jobs = registry();
        let job = jobs.start("test", until_cancelled).unwrap();
        assert_eq!(jobs.running(), ["test"]);
        job.cancel().await;
        job.cancel().await;
        assert!(jobs.running().is_empty());
        assert_eq!(all(&job).await, [JobEvent::Cancelled {}]);
        assert_eq!(job.status().state, JobState::Cancelled);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_ignores_its_cancellation_is_not_waited_for() {
        let jobs = registry();
        let job = jobs
            .start("test", |_| std::future::pending::<Result<(), _>>())
            .unwrap();
        job.cancel().await;
        assert_eq!(job.status().state, JobState::Running);
    }

    #[tokio::test]
    async fn a_job_that_panics_finishes_with_an_internal_error() {
        let job = registry()
            .start::<_, _, ()>("test", |_| async move { panic!("on purpose") })
            .unwrap();
        let JobEvent::Error(error) = job.finished().await else {
            panic!("not an error");
        };
        assert_eq!(error.code, Code::Internal);
        assert_eq!(error.correlation_id.as_deref(), Some(job.id().as_str()));
    }

    #[tokio::test]
    async fn excess_events_are_dropped_and_counted_and_the_terminal_one_is_kept() {
        let job = registry()
            .start("test", |context| async move {
                for n in 0..EVENTS_KEPT + 7 {
                    context.reporter.info("test", n.to_string());
                }
                Ok(())
            })
            .unwrap();
        let events = all(&job).await;
        assert_eq!(events.len(), EVENTS_KEPT + 2);
        let JobEvent::Narration(dropped) = &events[EVENTS_KEPT] else {
            panic!("not narration: {:?}", events[EVENTS_KEPT]);
        };
        assert_eq!(dropped.message, "7 events were dropped");
        assert_eq!(events[EVENTS_KEPT + 1], JobEvent::Result(json!(null)));
    }

    #[tokio::test]
    async fn progress_takes_the_place_of_earlier_progress_of_the_same_item() {
        let progress = |item: Option<&str>, done| {
            JobEvent::Progress(Progress {
                phase: "download".into(),
                item: item.map(str::to_owned),
                sha256: None,
                done,
                total: None,
                unit: "bytes".into(),
                rate: None,
                eta_seconds: None,
            })
        };
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let job = registry()
            .start("test", |context| async move {
                let send = |event| context.reporter.send(event);
                send(progress(None, 1));
                wait.await.unwrap();
                for n in 2..EVENTS_KEPT as u64 + 7 {
                    send(progress(None, n));
                    send(progress(Some("a"), n));
                }
                context.reporter.info("test", "next file");
                send(progress(None, 5000));
                Ok(())
            })
            .unwrap();
        let mut live = Box::pin(job.events());
        assert_eq!(live.next().await, Some(progress(None, 1)));
        go.send(()).unwrap();
        job.finished().await;
        let last = EVENTS_KEPT as u64 + 6;
        let expected = [
            progress(None, last),
            progress(Some("a"), last),
            narration("next file"),
            progress(None, 5000),
            JobEvent::Result(json!(null)),
        ];
        assert_eq!(live.collect::<Vec<_>>().await, expected);
        assert_eq!(all(&job).await, expected);
    }

    #[tokio::test]
    async fn a_finished_job_is_removed_for_a_new_one_and_a_running_one_is_not() {
        let jobs = registry();
        let start = || jobs.start("test", until_cancelled);
        let all: Vec<_> = (0..JOBS_KEPT).map(|_| start().unwrap()).collect();
        assert_eq!(start().unwrap_err().code, Code::QueueFull);
        all[3].cancel().await;
        start().unwrap();
        assert_eq!(jobs.get(all[3].id()).unwrap_err().code, Code::JobNotFound);
        assert!(jobs.get(all[4].id()).is_ok());
    }
}
