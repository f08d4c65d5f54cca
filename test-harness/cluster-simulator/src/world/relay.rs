//! A model of how the queen runs requests: assignments, tokens, silence, failures, ends. What a
//! failure means for a request is decided by the real relay.

use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use input_validation::RequestId;
use queen_contract::{Assigned, Priority};
use request_queue::{ClientKey, Deadline};
use request_relay::decisions::{AttemptEnd, Progress, judge_call, judge_error};
use rest_client::CallError;
use scheduler::{
    Assignment, AttemptFailure, NewRequest, PromptPrefixes, RequestOutcome, SchedulerEvent,
    WorkerRequirements,
};
use worker_registry::SpawnId;

use crate::{
    Bug,
    message::Purpose,
    message::{
        Connection, Event, HiveCall, InferCall, ProcessIndex, Reply, StreamItem, ToHive, ToProcess,
    },
    promise::Promise,
    world::network::Way,
    world::{World, token},
};

/// A worker that is silent for this long is asked whether it responds.
pub(super) const QUESTION_AFTER: Duration = Duration::from_secs(7);

/// A silent worker that completes no step for this long has stalled.
pub(super) const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// A worker ends a request at its deadline itself; this is for one that does not.
const DEADLINE_GRACE: Duration = Duration::from_secs(1);
/// A worker may end a request this much earlier than its deadline.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// Longest wait for a hive to say whether a worker has exited.
const EXIT_QUERY_LIMIT: Duration = Duration::from_secs(2);

/// One attempt of a request.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) connection: Connection,
    pub(crate) process: ProcessIndex,
    pub(crate) node: usize,
    spawn: SpawnId,
    assigned: Box<Assigned>,
    /// Tokens of earlier attempts.
    before: u32,
    pub(super) last_event: Duration,
    pub(super) stalled_at: Duration,
    /// When what the queen sent last arrives at the worker.
    arrives: Duration,
}

#[derive(Debug, Clone)]
pub(crate) enum Phase {
    Future,
    Waiting,
    Running(Attempt),
    /// The hive is asked whether the worker has exited.
    Reporting(Attempt, Box<Diagnostic>),
    /// The worker is asked to stop; then the request ends like this.
    Cancelling(RequestOutcome, Connection),
    Ended,
}

impl Phase {
    /// The connection that is open for the request.
    pub(crate) fn connection(&self) -> Option<Connection> {
        match self {
            Self::Running(attempt) => Some(attempt.connection),
            Self::Cancelling(_, connection) => Some(*connection),
            _ => None,
        }
    }
}

/// A request at the queen, and its client.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: Option<RequestId>,
    pub(crate) phase: Phase,
    /// Tokens that the client has received.
    pub(crate) received: u32,
    /// When the client received the end.
    pub(crate) ended: Option<Duration>,
    pub(crate) outcome: Option<RequestOutcome>,
    /// When the client gave up.
    pub(super) left: Option<Duration>,
    /// The request must end like this when the hive has answered.
    pub(super) interrupt: Option<RequestOutcome>,
    pub(super) attempts: u32,
}

impl Request {
    pub(crate) fn new() -> Self {
        Self {
            id: None,
            phase: Phase::Future,
            received: 0,
            ended: None,
            outcome: None,
            left: None,
            interrupt: None,
            attempts: 0,
        }
    }
}

impl World<'_> {
    pub(crate) fn arrive(&mut self, index: usize) {
        if self.queen.is_down {
            // The connection is refused.
            self.requests[index].phase = Phase::Ended;
            return self.end_for_client(index, RequestOutcome::Failed);
        }
        let plan = self.plan_of(index);
        let (deadline, cancel) = (plan.deadline(), plan.cancel_ms);
        let mut requirements = WorkerRequirements::model(self.names.models[plan.model].clone());
        requirements.node = plan.node.map(|node| self.names.nodes[node].clone());
        let Ok(id) = format!("r{index}").parse::<RequestId>() else {
            return;
        };
        let late = if self.planted(Bug::LateDeadline) {
            60
        } else {
            0
        };
        let deadline = deadline + Duration::from_secs(late);
        let new = NewRequest {
            id: id.clone(),
            requirements,
            deadline: Deadline::at(deadline.saturating_sub(self.queen.started)),
            client: ClientKey::default(),
            priority: Priority::default(),
            prompt: PromptPrefixes::default(),
        };
        let now = self.queen_now();
        let Ok(effects) = self.queen.scheduler.submit(new, now) else {
            self.requests[index].phase = Phase::Ended;
            self.refused += 1;
            return self.end_for_client(index, RequestOutcome::Failed);
        };
        self.requests[index].id = Some(id);
        self.requests[index].phase = Phase::Waiting;
        self.waiting += 1;
        self.at(deadline + DEADLINE_GRACE, Event::Deadline(index));
        if let Some(cancel) = cancel {
            let at = self.now + Duration::from_millis(cancel);
            self.at(at, Event::Cancel(index));
        }
        self.execute(effects);
    }

    /// The scheduler assigned the request to a worker.
    pub(crate) fn assign(&mut self, index: usize, assignment: &Assignment) {
        let info = &assignment.worker;
        let spawn = assignment.spawn_id();
        let process = info.pid as usize - 1;
        let node = self.processes[process].node;
        if !matches!(self.requests[index].phase, Phase::Waiting) {
            return self.violate(
                Promise::Assignment,
                format!("request {index} was assigned, but does not wait"),
            );
        }
        let plan = self.plan_of(index);
        let (model, wanted_node) = (plan.model, plan.node);
        if self.processes[process].model != model || wanted_node.is_some_and(|n| n != node) {
            let message = format!(
                "request {index} was assigned to worker {}, which is for others",
                info.id
            );
            return self.violate(Promise::Assignment, message);
        }
        self.check_policy(node, &format!("request {index} was assigned to a worker"));
        let lowest = self.queen.fences.get(&spawn.worker).copied().unwrap_or(0);
        if spawn.generation.0 < lowest {
            let message = format!(
                "request {index} was assigned to worker {}, which was fenced",
                info.id
            );
            return self.violate(Promise::Fence, message);
        }
        let load = self.queen.load.entry(process).or_default();
        *load += 1;
        if *load > info.slots_total {
            let message = format!(
                "worker {} has {load} requests and {} slots",
                info.id, info.slots_total
            );
            self.violate(Promise::Assignment, message);
        }
        self.waiting = self.waiting.saturating_sub(1);
        self.running += 1;
        let connection = self.number();
        let now = self.now;
        let request = &mut self.requests[index];
        request.attempts += 1;
        let received = request.received;
        request.phase = Phase::Running(Attempt {
            connection,
            process,
            node,
            spawn,
            assigned: Box::new(Assigned {
                worker: info.id.clone(),
                node: info.hive_id.clone(),
                device: info.device,
                attempt: assignment.attempt,
            }),
            before: received,
            last_event: now,
            stalled_at: now + SILENCE_LIMIT,
            arrives: Duration::ZERO,
        });
        if received > 0 {
            self.continued += 1;
        }
        if !self.queen.views[node].is_up() {
            return self.at(now, Event::Unreachable(index, connection));
        }
        let from = match received {
            1.. if self.planted(Bug::ContinueTooEarly) => received - 1,
            1.. if self.planted(Bug::ContinueTooLate) => received + 1,
            _ => received,
        };
        let call = Box::new(InferCall {
            request: index,
            connection,
            continue_from: (0..from).map(|position| token(index, position)).collect(),
            deadline: self.plan_of(index).deadline(),
        });
        let event = Event::Process(process, ToProcess::Infer(call));
        let arrives = self.stream(node, Way::To, Duration::ZERO, event);
        if let Some(attempt) = self.running_attempt(index, connection) {
            attempt.arrives = arrives;
        }
        self.at(now + QUESTION_AFTER, Event::Silence(index, connection));
    }

    pub(crate) fn running_attempt(
        &mut self,
        index: usize,
        connection: Connection,
    ) -> Option<&mut Attempt> {
        match &mut self.requests[index].phase {
            Phase::Running(attempt) if attempt.connection == connection => Some(attempt),
            _ => None,
        }
    }

    /// A worker sent something about a request.
    pub(crate) fn stream_event(&mut self, index: usize, connection: Connection, item: StreamItem) {
        let now = self.now;
        let Some(attempt) = self.running_attempt(index, connection) else {
            let is_open = matches!(
                self.requests[index].phase,
                Phase::Waiting | Phase::Running(_)
            );
            if let StreamItem::Token(value) = item
                && is_open
                && self.planted(Bug::ForwardStale)
            {
                self.receive(index, value);
            }
            return;
        };
        attempt.last_event = now;
        attempt.stalled_at = now + SILENCE_LIMIT;
        match item {
            StreamItem::Token(value) => {
                if !self.planted(Bug::LoseToken) {
                    self.receive(index, value);
                }
                if self.planted(Bug::DoubleToken) {
                    self.receive(index, value);
                }
            }
            StreamItem::End => self.attempt_ended(index, AttemptEnd::Completed(())),
            StreamItem::Error(error) => {
                let (assigned, progress) = self.progress(index);
                let end = judge_error(*error, &assigned, progress);
                self.attempt_ended(index, end);
            }
            StreamItem::Reset => self.link_lost(index, "reset"),
        }
    }

    /// The client receives a token.
    fn receive(&mut self, index: usize, value: u32) {
        let position = self.requests[index].received;
        if value != token(index, position) {
            let message =
                format!("request {index} received another token than its token {position}");
            self.violate(Promise::Tokens, message);
        }
        self.requests[index].received += 1;
        self.tokens += 1;
    }

    pub(super) fn progress(&self, index: usize) -> (Assigned, Progress) {
        let request = &self.requests[index];
        let (before, assigned) = match &request.phase {
            Phase::Running(attempt) => (attempt.before, attempt.assigned.as_ref().clone()),
            _ => return (self.nobody.clone(), Progress::default()),
        };
        let progress = Progress {
            tokens: request.received as usize,
            before: before as usize,
            has_time: self.now + CLOCK_TOLERANCE < self.plan_of(index).deadline(),
        };
        (assigned, progress)
    }

    /// The connection of the attempt was refused or broke.
    pub(crate) fn link_lost(&mut self, index: usize, cause: &str) {
        let (assigned, progress) = self.progress(index);
        let error = CallError::Link(Diagnostic::new(Code::WorkerLinkLost, cause));
        let end = judge_call(error, &assigned, progress);
        self.attempt_ended(index, end);
    }

    pub(super) fn attempt_ended(&mut self, index: usize, end: AttemptEnd<()>) {
        let failure = match end {
            AttemptEnd::Completed(()) => {
                let wanted = self.plan_of(index).output_tokens;
                let received = self.requests[index].received;
                if received != wanted {
                    let message =
                        format!("request {index} completed with {received} of {wanted} tokens");
                    self.violate(Promise::Tokens, message);
                }
                return self.finish(index, RequestOutcome::Completed);
            }
            AttemptEnd::Rejected(_) => return self.finish(index, RequestOutcome::Failed),
            AttemptEnd::Failed(failure) => failure,
        };
        let Phase::Running(attempt) = self.requests[index].phase.clone() else {
            return;
        };
        self.close(&attempt);
        let AttemptFailure::Link(error) = failure else {
            return self.attempt_failed(index, &attempt, failure);
        };
        if !self.queen.views[attempt.node].is_up() {
            return self.attempt_failed(index, &attempt, AttemptFailure::Link(error));
        }
        let (node, worker) = (attempt.node, attempt.spawn.worker.clone());
        self.requests[index].phase = Phase::Reporting(attempt, Box::new(error));
        let purpose = Purpose::Exit(index);
        self.call_hive(node, HiveCall::Worker(worker), purpose, EXIT_QUERY_LIMIT);
    }

    /// A heartbeat of the worker is late: asks its hive.
    pub(crate) fn check_process(&mut self, spawn: SpawnId) {
        let info = self.queen.scheduler.registry().get_spawn(&spawn);
        let node = info.map(|info| self.processes[info.pid as usize - 1].node);
        if let Some(node) = node.filter(|node| self.queen.views[*node].is_up()) {
            let call = HiveCall::Worker(spawn.worker.clone());
            self.call_hive(node, call, Purpose::Process(spawn), EXIT_QUERY_LIMIT);
        }
    }

    /// The hive said whether the process of a worker is running, or did not respond.
    pub(crate) fn process_answered(&mut self, spawn: SpawnId, reply: &Reply) {
        if has_exited(&spawn, reply) {
            self.scheduler_event(SchedulerEvent::Exited(spawn));
        }
    }

    /// The hive said whether the worker of a failed attempt has exited, or did not respond.
    pub(crate) fn exit_answered(&mut self, index: usize, reply: &Reply) {
        let Phase::Reporting(attempt, error) = self.requests[index].phase.clone() else {
            return;
        };
        let failure = if has_exited(&attempt.spawn, reply) {
            AttemptFailure::Crashed(*error)
        } else {
            AttemptFailure::Link(*error)
        };
        self.attempt_failed(index, &attempt, failure);
    }

    fn attempt_failed(&mut self, index: usize, attempt: &Attempt, failure: AttemptFailure) {
        self.unload(attempt.process);
        if self.planted(Bug::ForgetPutBack) {
            self.requests[index].phase = Phase::Waiting;
            return;
        }
        self.requests[index].phase = Phase::Waiting;
        self.running = self.running.saturating_sub(1);
        self.waiting += 1;
        let Some(id) = self.requests[index].id.clone() else {
            return;
        };
        self.scheduler_event(SchedulerEvent::AttemptFailed(id, failure));
        if let Some(outcome) = self.requests[index].interrupt.take() {
            self.interrupt(index, outcome);
        }
    }

    /// The connection of an attempt is closed at the queen's side.
    pub(crate) fn close(&mut self, attempt: &Attempt) {
        let event = Event::Process(attempt.process, ToProcess::Close(attempt.connection));
        self.stream(attempt.node, Way::To, attempt.arrives, event);
    }

    pub(super) fn unload(&mut self, process: ProcessIndex) {
        if let Some(load) = self.queen.load.get_mut(&process) {
            *load = load.saturating_sub(1);
        }
    }

    pub(crate) fn ask_hive(&mut self, node: usize, message: ToHive) {
        self.stream(node, Way::To, Duration::ZERO, Event::Hive(node, message));
    }
}

/// Whether a hive reports that the process of this spawn is not running any more.
fn has_exited(spawn: &SpawnId, reply: &Reply) -> bool {
    matches!(reply, Reply::Worker(Some((generation, false))) if *generation == spawn.generation)
}
