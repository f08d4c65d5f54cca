//! How requests end: completed, failed, or interrupted from outside.

use std::time::Duration;

use scheduler::{RequestOutcome, SchedulerEvent};

use crate::{
    Bug,
    message::{Purpose, ToProcess},
    promise::Promise,
    world::{
        World,
        check::{CANCEL_GRACE, RUNNING_GRACE, WAITING_GRACE},
        relay::Phase,
    },
};

/// Longest wait for a worker to confirm a cancellation.
const CANCEL_LIMIT: Duration = Duration::from_secs(1);

impl World<'_> {
    /// The client leaves.
    pub(crate) fn client_leaves(&mut self, index: usize) {
        if self.requests[index].ended.is_none() && !self.queen.is_down {
            self.requests[index].left = Some(self.now);
            self.interrupt(index, RequestOutcome::Cancelled);
        }
    }

    pub(crate) fn deadline_passed(&mut self, index: usize) {
        self.interrupt(index, RequestOutcome::Failed);
    }

    /// Something from outside ends the request.
    pub(crate) fn interrupt(&mut self, index: usize, outcome: RequestOutcome) {
        match self.requests[index].phase.clone() {
            Phase::Future | Phase::Ended | Phase::Cancelling(..) => {}
            Phase::Waiting => self.finish(index, outcome),
            Phase::Reporting(..) => {
                self.requests[index].interrupt.get_or_insert(outcome);
            }
            Phase::Running(attempt) => {
                self.close(&attempt);
                self.unload(attempt.process);
                let connection = attempt.connection;
                self.requests[index].phase = Phase::Cancelling(outcome, connection);
                let purpose = Purpose::Cancel(index);
                let (node, process) = (attempt.node, attempt.process);
                self.call_process(
                    node,
                    process,
                    |call| ToProcess::CancelCall(call, connection),
                    purpose,
                    CANCEL_LIMIT,
                );
            }
        }
    }

    pub(crate) fn cancel_answered(&mut self, index: usize) {
        if let Phase::Cancelling(outcome, _) = self.requests[index].phase {
            self.finish(index, outcome);
        }
    }

    /// The request is over: the scheduler learns it, then the client.
    pub(super) fn finish(&mut self, index: usize, outcome: RequestOutcome) {
        let phase = std::mem::replace(&mut self.requests[index].phase, Phase::Ended);
        match &phase {
            Phase::Waiting => self.waiting = self.waiting.saturating_sub(1),
            Phase::Running(attempt) => {
                self.running = self.running.saturating_sub(1);
                self.unload(attempt.process);
            }
            Phase::Cancelling(..) => self.running = self.running.saturating_sub(1),
            Phase::Future | Phase::Reporting(..) | Phase::Ended => {}
        }
        let id = self.requests[index].id.take();
        self.check_time(index, matches!(phase, Phase::Waiting));
        self.end_for_client(index, outcome);
        if self.planted(Bug::DoubleTerminal) {
            self.end_for_client(index, outcome);
        }
        if let Some(id) = id
            && !self.planted(Bug::DropFinished)
        {
            self.scheduler_event(SchedulerEvent::Finished(id, outcome));
        }
    }

    /// The scheduler ended a request that waits.
    pub(crate) fn failed_by_scheduler(&mut self, index: usize) {
        if !matches!(self.requests[index].phase, Phase::Waiting) {
            let message = format!("the scheduler ended request {index}, which does not wait");
            return self.violate(Promise::OneEnd, message);
        }
        self.waiting = self.waiting.saturating_sub(1);
        self.requests[index].phase = Phase::Ended;
        self.requests[index].id = None;
        self.check_time(index, true);
        if !self.planted(Bug::DropFail) {
            self.end_for_client(index, RequestOutcome::Failed);
        }
    }

    pub(super) fn check_time(&mut self, index: usize, waits: bool) {
        let grace = if waits && self.requests[index].attempts == 0 {
            WAITING_GRACE
        } else {
            RUNNING_GRACE
        };
        let deadline = self.plan_of(index).deadline() + grace;
        let left = self.requests[index].left.map(|left| left + CANCEL_GRACE);
        let latest = left.map_or(deadline, |left| left.min(deadline));
        if self.now > latest {
            let late = self.now.saturating_sub(latest).as_secs_f64();
            self.violate(
                Promise::Deadline,
                format!("request {index} ended {late:.3} s too late"),
            );
        }
    }

    /// The client receives the end of its request.
    pub(crate) fn end_for_client(&mut self, index: usize, outcome: RequestOutcome) {
        if self.requests[index].ended.is_some() {
            self.violate(Promise::OneEnd, format!("request {index} ended twice"));
        }
        self.requests[index].ended = Some(self.now);
        self.requests[index].outcome = Some(outcome);
        self.ended += 1;
        if self.requests[index].attempts > 1 {
            self.moved += 1;
        }
        self.client_ended(index, outcome);
    }
}
