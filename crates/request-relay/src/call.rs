use std::time::Duration;

use diagnostics::Diagnostic;
use input_validation::RequestId;
use queen_contract::{Assigned, Priority};
use queen_dispatch::Notice;
use request_queue::{ClientKey, Deadline};
use rest_client::CallError;
use scheduler::{NewRequest, PromptPrefixes, WorkerRequirements};
use tokio::time::Instant;
use worker_contract::WorkerClient;

use crate::{
    Relay,
    attempts::{self, AssignedWorker, AttemptEnd, Failure, Interrupt, Supervision, Work},
    errors,
    stall::{self, unless_silent},
    verdict::{Progress, judge_call},
};

/// A call to a worker with a single response: tokenization, embeddings.
#[derive(Debug)]
pub struct ShortCall {
    pub id: RequestId,
    pub requirements: WorkerRequirements,
    pub priority: Priority,
    pub client: ClientKey,
    pub deadline: Deadline,
}

/// Where a response came from.
#[derive(Debug)]
pub struct CallOrigin {
    pub id: RequestId,
    pub worker: Assigned,
    /// Time until a worker was assigned, including loading.
    pub waited: Duration,
}

struct CallWork<C> {
    call: C,
    worker_silence: Duration,
    submitted: Instant,
}

impl<T, F, C> Work for CallWork<C>
where
    C: Fn(WorkerClient) -> F,
    F: Future<Output = Result<T, CallError>>,
{
    type Output = (T, Assigned, Duration);

    async fn attempt(
        &mut self,
        worker: &AssignedWorker,
        supervision: &mut Supervision,
    ) -> Result<AttemptEnd<Self::Output>, Interrupt> {
        let waited = self.submitted.elapsed();
        let assigned = &worker.assigned;
        let calling = (self.call)(worker.client.clone());
        let limit = self.worker_silence;
        let called = unless_silent(&worker.client, calling, limit, supervision).await?;
        Ok(match called {
            Err(silence) => stall::failure(silence, assigned, limit, 0),
            Ok(Ok(response)) => AttemptEnd::Completed((response, assigned.clone(), waited)),
            Ok(Err(error)) => judge_call(error, assigned, Progress::default()),
        })
    }

    fn notify(&mut self, _: Notice) {}
}

impl Relay {
    /// Makes a call that changes no state of the worker, so that it can be repeated on
    /// another one. Dropping the future cancels the call.
    pub async fn call<T, F>(
        &self,
        call: ShortCall,
        make: impl Fn(WorkerClient) -> F,
    ) -> Result<(T, CallOrigin), Diagnostic>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let id = call.id.clone();
        let correlated = |error: Diagnostic| error.correlation_id(id.as_str());
        let request = NewRequest {
            id: call.id,
            requirements: call.requirements,
            priority: call.priority,
            client: call.client,
            deadline: call.deadline,
            prompt: PromptPrefixes::default(),
        };
        let mut work = CallWork {
            call: make,
            worker_silence: self.worker_silence,
            submitted: Instant::now(),
        };
        let open = self.dispatcher.submit(request).await.map_err(correlated)?;
        let deadline = self.dispatcher.clock().instant(call.deadline);
        let supervision = Supervision::new(open, deadline, None);
        match attempts::run(self, supervision, &mut work).await {
            Ok((response, worker, waited)) => Ok((response, CallOrigin { id, worker, waited })),
            Err(Failure::Rejected(error) | Failure::Interrupted(Interrupt::Ended(error))) => {
                Err(correlated(error))
            }
            Err(Failure::Interrupted(
                Interrupt::DeadlinePassed | Interrupt::ClientDisconnected,
            )) => Err(correlated(errors::deadline_passed_in_call())),
        }
    }
}
