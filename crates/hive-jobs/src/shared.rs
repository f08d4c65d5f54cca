//! One operation that several callers wait for.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use diagnostics::Diagnostic;
use futures_util::StreamExt as _;
use hive_contract::JobEvent;
use serde::Serialize;

use crate::{Job, JobContext, JobRegistry};

/// An operation that several jobs follow. Each job has all its events, and can be cancelled
/// without the others: the operation is cancelled with its last job.
#[derive(Debug, Clone)]
pub struct SharedOperation {
    operation: Arc<Job>,
    /// Number of jobs that follow it; `None` after the last one has left.
    followers: Arc<Mutex<Option<usize>>>,
}

impl JobRegistry {
    /// Starts an operation that is cancelled as soon as the jobs that [`Self::follow`] it are.
    pub fn start_shared<F, W, T>(
        &self,
        kind: &'static str,
        operation: F,
    ) -> Result<SharedOperation, Diagnostic>
    where
        F: FnOnce(JobContext) -> W,
        W: Future<Output = Result<T, Diagnostic>> + Send + 'static,
        T: Serialize + Send + 'static,
    {
        Ok(SharedOperation {
            operation: self.start_unlisted(kind, operation)?,
            followers: Arc::new(Mutex::new(Some(0))),
        })
    }

    /// Starts a job with the events of an operation, also if that has ended. `None` if no job
    /// follows it any more. `QUEUE_FULL` if 256 jobs are running.
    pub fn follow(&self, shared: &SharedOperation) -> Result<Option<Arc<Job>>, Diagnostic> {
        if !shared.join() {
            return Ok(None);
        }
        let job = self.add(shared.operation.kind()).inspect_err(|_| {
            if shared.leave() {
                shared.operation.cancel_token().cancel();
            }
        })?;
        tokio::spawn(forward(shared.clone(), Arc::clone(&job)));
        Ok(Some(job))
    }
}

impl SharedOperation {
    /// Whether the operation has ended.
    pub fn has_ended(&self) -> bool {
        self.operation.is_finished()
    }

    fn join(&self) -> bool {
        let mut followers = self
            .followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match followers.as_mut() {
            Some(count) => {
                *count += 1;
                true
            }
            None => false,
        }
    }

    /// Returns whether this was the last follower.
    fn leave(&self) -> bool {
        let mut followers = self
            .followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match followers.as_mut() {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            _ => followers.take().is_some(),
        }
    }
}

/// Copies the events of an operation to a job, until one of them ends.
async fn forward(shared: SharedOperation, job: Arc<Job>) {
    let mut events = pin!(shared.operation.events());
    let end = loop {
        let event = tokio::select! {
            biased;
            () = job.cancel_token().cancelled() => break JobEvent::Cancelled {},
            event = events.next() => event.unwrap_or(JobEvent::Cancelled {}),
        };
        if event.is_terminal() {
            break event;
        }
        job.push(event);
    };
    if shared.leave() {
        shared.operation.cancel().await;
    }
    job.push(match end {
        JobEvent::Error(error) => JobEvent::Error(Diagnostic {
            correlation_id: Some(job.id().to_string().into()),
            ..error
        }),
        end => end,
    });
}

#[cfg(test)]
mod tests {
    use diagnostics::{Code, Narration};
    use hive_contract::JobState;
    use serde_json::json;
    use tokio::sync::oneshot;

    use super::*;
    use crate::NodeEvents;

    #[tokio::test]
    async fn every_follower_gets_all_events_and_can_leave() {
        let events = NodeEvents::default();
        let mut subscriber = pin!(events.subscribe());
        let jobs = JobRegistry::new(events);
        let (go, wait) = oneshot::channel::<()>();
        let shared = jobs.start_shared("test", |context| async move {
            context.reporter.info("test", "one");
            wait.await.unwrap();
            Ok(3)
        });
        let shared = shared.unwrap();
        let [leaver, first] = [(); 2].map(|()| jobs.follow(&shared).unwrap().unwrap());
        assert_ne!(leaver.id(), first.id());
        leaver.cancel().await;
        leaver.cancel().await;
        assert_eq!(leaver.status().state, JobState::Cancelled);
        let late = jobs.follow(&shared).unwrap().unwrap();
        go.send(()).unwrap();
        let one = JobEvent::Narration(Narration::info("hive", "test", "one"));
        for job in [first, late] {
            let all: Vec<_> = job.events().collect().await;
            assert_eq!(all, [one.clone(), JobEvent::Result(json!(3))]);
            assert_eq!(
                jobs.get(job.id()).unwrap().status().state,
                JobState::Succeeded
            );
        }
        assert!(jobs.follow(&shared).unwrap().is_none(), "it has ended");
        // The narration of the operation is published once.
        drop(jobs);
        let next = subscriber.next().await.unwrap();
        assert_eq!(next.message, "one");
        drop(shared);
        assert_eq!(subscriber.next().await, None);
    }

    #[tokio::test]
    async fn the_operation_ends_with_its_last_follower() {
        let jobs = JobRegistry::new(NodeEvents::default());
        let (ended, end) = oneshot::channel();
        let shared = jobs.start_shared("test", |context| async move {
            let result = context
                .phase::<()>("it", None, std::future::pending())
                .await;
            ended.send(()).unwrap();
            result
        });
        let shared = shared.unwrap();
        let [one, two] = [(); 2].map(|()| jobs.follow(&shared).unwrap().unwrap());
        one.cancel().await;
        assert_eq!(two.status().state, JobState::Running);
        two.cancel().await;
        end.await.unwrap();
        assert!(jobs.follow(&shared).unwrap().is_none(), "it was cancelled");
    }

    #[tokio::test]
    async fn an_error_names_the_job_of_each_follower() {
        let jobs = JobRegistry::new(NodeEvents::default());
        let (go, wait) = oneshot::channel::<()>();
        let shared = jobs.start_shared("test", |_| async move {
            wait.await.unwrap();
            Err::<(), _>(Diagnostic::new(Code::DiskFull, "no space"))
        });
        let job = jobs.follow(&shared.unwrap()).unwrap().unwrap();
        go.send(()).unwrap();
        let JobEvent::Error(error) = job.finished().await else {
            panic!("not an error");
        };
        assert_eq!(error.correlation_id.as_deref(), Some(job.id().as_str()));
    }
}
