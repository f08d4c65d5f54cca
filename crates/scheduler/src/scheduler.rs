use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use diagnostics::{Code, Diagnostic};
use input_validation::{Backend, DeviceId, ModelRef, RequestId};
use queen_contract::RequestCounts;
use worker_contract::{WorkerHeartbeat, WorkerInfo};
use worker_registry::{Filter, Heard, Lease, Prospect, Registry};

use crate::{
    Assignment, Effect, Event, Lost, Outcome, Settings, Submission, Target, TargetState, Wait,
    Want, spawning::Readiness,
};

/// Bounds of what `Retry-After` says, in seconds.
const RETRY_AFTER_SECONDS: (u64, u64) = (1, 60);

#[derive(Debug, Clone)]
struct Running {
    lease: Lease,
    since: Duration,
}

#[derive(Debug, Clone)]
struct Request {
    want: Want,
    deadline: Duration,
    /// Where it runs; absent while it waits.
    running: Option<Running>,
    /// Workers that it was given to and that count.
    attempts: u32,
    /// The last worker that lost it; another one is preferred.
    avoid: Option<Lease>,
    /// How it was lost, for the client if no other worker can be had.
    loss: Option<Diagnostic>,
    /// What its client was told last.
    told: Option<Wait>,
}

/// Requests, workers and spawns of one queen. See the crate's documentation.
#[derive(Debug, Clone)]
pub struct Scheduler {
    settings: Settings,
    registry: Registry,
    requests: HashMap<RequestId, Request>,
    /// Waiting requests, first come first served, by model. No queue is empty.
    queues: BTreeMap<ModelRef, VecDeque<RequestId>>,
    targets: BTreeMap<Target, TargetState>,
    draining: bool,
    counts: RequestCounts,
    /// Average time of a request on a worker, by model, newer ones weighing more.
    service: HashMap<ModelRef, Duration>,
}

impl Scheduler {
    /// A scheduler without workers and requests.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            registry: Registry::default(),
            requests: HashMap::new(),
            queues: BTreeMap::new(),
            targets: BTreeMap::new(),
            draining: false,
            counts: RequestCounts::default(),
            service: HashMap::new(),
        }
    }

    /// The workers.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Requests counted since the start.
    pub fn counts(&self) -> RequestCounts {
        let waiting = self.queues.values().map(VecDeque::len).sum::<usize>() as u64;
        RequestCounts {
            waiting,
            running: self.requests.len() as u64 - waiting,
            ..self.counts
        }
    }

    /// The attempts to have workers, by where these were to be.
    pub fn targets(&self) -> impl Iterator<Item = (&Target, &TargetState)> {
        self.targets.iter()
    }

    /// Where a worker is spawned for a request that needs this.
    pub fn target_of(&self, want: &Want) -> Target {
        Target {
            model: want.model.clone(),
            node: want
                .node
                .clone()
                .unwrap_or_else(|| self.settings.home.clone()),
            backend: want.backend.unwrap_or(Backend::Cpu),
        }
    }

    /// Requests that wait for a worker at the target.
    pub fn waiting_for<'a>(&'a self, target: &'a Target) -> impl Iterator<Item = &'a RequestId> {
        self.queues
            .get(&target.model)
            .into_iter()
            .flatten()
            .filter(move |id| {
                self.requests
                    .get(*id)
                    .is_some_and(|request| self.target_of(&request.want) == *target)
            })
    }

    /// Takes in a heartbeat; [`Code::Fenced`] tells the worker to end.
    pub fn heartbeat(
        &mut self,
        heartbeat: WorkerHeartbeat,
        now: Duration,
    ) -> (Result<Heard, Diagnostic>, Vec<Effect>) {
        let model = heartbeat.worker.model_id.clone();
        let lease = Lease {
            worker: heartbeat.worker.id.clone(),
            generation: heartbeat.worker.generation,
        };
        let heard = self.registry.heartbeat(heartbeat, now);
        let mut effects = Vec::new();
        if heard.is_ok() {
            for target in self.targets.values_mut() {
                target.heard(&lease);
            }
            self.serve(&model, now, &mut effects);
        }
        (heard, effects)
    }

    /// Takes in what happened at `now` and returns what is to be done.
    pub fn handle(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        let out = &mut effects;
        match event {
            Event::Submit(submission) => self.submit(submission, now, out),
            Event::Ended(id, outcome) => self.ended(&id, outcome, now, out),
            Event::Lost(id, lost) => self.lost(&id, lost, now, out),
            Event::Cancel(id, error) => self.cancel(&id, error, out),
            Event::Heartbeat(heartbeat) => return self.heartbeat(*heartbeat, now).1,
            Event::Spawned(target, lease) => {
                // It may have been heard, have served and been stopped already.
                let heard = self.registry.was_heard(&lease);
                let state = self.targets.entry(target.clone()).or_default();
                state.spawned(lease.clone(), now);
                if heard {
                    state.heard(&lease);
                }
                self.serve(&target.model, now, out);
            }
            Event::SpawnFailed(target, error) => self.spawn_failed(&target, &error, now, out),
            Event::Fence(id, lowest) => {
                self.registry.fence(&id, lowest);
                self.serve_all(now, out);
            }
            Event::Gone(lease) => {
                self.registry.remove(&lease);
                self.serve_all(now, out);
            }
            Event::Drain => self.draining = true,
            Event::Abort(error) => {
                self.draining = true;
                let ids: Vec<RequestId> = self.requests.keys().cloned().collect();
                for id in ids {
                    self.cancel(&id, error.clone(), out);
                }
            }
            Event::Tick => self.tick(now, out),
        }
        effects
    }

    fn submit(&mut self, submission: Submission, now: Duration, out: &mut Vec<Effect>) {
        let Submission { id, want, deadline } = submission;
        let waiting = self.queues.get(&want.model).map_or(0, VecDeque::len);
        let refusal = if self.draining {
            Some(
                Diagnostic::new(
                    Code::Draining,
                    "the queen is stopping and takes no new work",
                )
                .hint("ask again when it runs again: `rbee-keeper queen start`"),
            )
        } else if waiting >= self.settings.queue_limit {
            let seconds = self.retry_after_seconds(&want.model, waiting);
            Some(
                Diagnostic::new(
                    Code::QueueFull,
                    format!(
                        "too many requests wait for {}: {waiting} of {}",
                        want.model, self.settings.queue_limit
                    ),
                )
                .hint(format!("ask again in {seconds} s"))
                .detail("retry_after_seconds", seconds)
                .detail("waiting", waiting)
                .detail("queue_limit", self.settings.queue_limit),
            )
        } else {
            None
        };
        if let Some(error) = refusal {
            self.counts.failed += 1;
            out.push(Effect::Fail(id, error));
            return;
        }
        let model = want.model.clone();
        self.requests.insert(
            id.clone(),
            Request {
                want,
                deadline,
                running: None,
                attempts: 0,
                avoid: None,
                loss: None,
                told: None,
            },
        );
        self.queues.entry(model.clone()).or_default().push_back(id);
        self.serve(&model, now, out);
    }

    fn ended(&mut self, id: &RequestId, outcome: Outcome, now: Duration, out: &mut Vec<Effect>) {
        let Some(request) = self.take(id) else {
            return;
        };
        match outcome {
            Outcome::Completed => self.counts.completed += 1,
            Outcome::Failed => self.counts.failed += 1,
            Outcome::Cancelled => self.counts.cancelled += 1,
        }
        let model = request.want.model;
        if let (Some(running), Outcome::Completed) = (&request.running, outcome) {
            let took = now.saturating_sub(running.since);
            let average = self.service.entry(model.clone()).or_insert(took);
            *average = (*average * 7 + took) / 8;
            let worker = self.registry.get(&running.lease.worker);
            if let Some(target) = worker.map(|info| target_served_by(info, request.want.backend))
                && let Some(state) = self.targets.get_mut(&target)
            {
                state.served();
            }
        }
        if let Some(running) = request.running {
            self.registry.release(&running.lease);
            self.serve(&model, now, out);
        }
    }

    fn lost(&mut self, id: &RequestId, lost: Lost, now: Duration, out: &mut Vec<Effect>) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        let Some(running) = request.running.take() else {
            return;
        };
        let lease = running.lease;
        self.registry.release(&lease);
        let error = match lost {
            Lost::Refused(_) => {
                self.registry.refused(&lease, now);
                request.attempts = request.attempts.saturating_sub(1);
                None
            }
            Lost::Link(error) => {
                let crashed = self
                    .registry
                    .get(&lease.worker)
                    .filter(|info| info.generation == lease.generation)
                    .map(|info| target_served_by(info, request.want.backend));
                if self.registry.link_failed(&lease)
                    && let Some(target) = crashed
                {
                    self.targets.entry(target).or_default().crashed(now);
                }
                Some(error)
            }
            Lost::Fault(error) => Some(error),
        };
        request.avoid = Some(lease);
        if error.is_some() {
            request.loss.clone_from(&error);
        }
        request.told = None;
        let model = request.want.model.clone();
        match error {
            Some(error) if request.attempts >= self.settings.attempts => {
                self.fail(id, error, out);
            }
            _ => self
                .queues
                .entry(model.clone())
                .or_default()
                .push_front(id.clone()),
        }
        self.serve(&model, now, out);
    }

    fn cancel(&mut self, id: &RequestId, error: Diagnostic, out: &mut Vec<Effect>) {
        match self.requests.get(id) {
            None => {}
            Some(request) if request.running.is_some() => {
                out.push(Effect::Stop(id.clone(), error));
            }
            Some(_) => self.fail(id, error, out),
        }
    }

    fn spawn_failed(
        &mut self,
        target: &Target,
        error: &Diagnostic,
        now: Duration,
        out: &mut Vec<Effect>,
    ) {
        let state = self.targets.entry(target.clone()).or_default();
        if !state.failed(error.clone(), now) {
            self.serve(&target.model, now, out);
            return;
        }
        let without_hope: Vec<RequestId> = self
            .waiting_for(target)
            .filter(|id| {
                self.requests.get(*id).is_some_and(|r| {
                    self.registry.prospect(&filter(&r.want), now) == Prospect::Nobody
                })
            })
            .cloned()
            .collect();
        for id in without_hope {
            let told = self.unserved(&id, error);
            self.fail(&id, told, out);
        }
    }

    fn tick(&mut self, now: Duration, out: &mut Vec<Effect>) {
        for lease in self.registry.expire(now) {
            out.push(Effect::Forgotten(lease));
        }
        let late: Vec<RequestId> = self
            .queues
            .values()
            .flatten()
            .filter(|id| self.requests.get(*id).is_some_and(|r| r.deadline <= now))
            .cloned()
            .collect();
        for id in late {
            let error = Diagnostic::new(
                Code::DeadlineExceeded,
                "the deadline passed while the request waited for a worker",
            )
            .hint("allow more time, or serve the model with more workers");
            self.fail(&id, error, out);
        }
        let overdue: Vec<(Target, Lease)> = self
            .targets
            .iter()
            .filter_map(|(target, state)| Some((target.clone(), state.overdue(now)?)))
            .collect();
        for (target, lease) in overdue {
            let error = Diagnostic::new(
                Code::WorkerStartFailed,
                format!(
                    "worker {} was spawned but the queen never heard it",
                    lease.worker
                ),
            )
            .hint(format!("see `rbee-keeper worker logs {}`", lease.worker));
            self.spawn_failed(&target, &error, now, out);
        }
        self.serve_all(now, out);
        // Any name may be asked for; those that came to nothing are not kept for ever.
        self.targets.retain(|_, state| !state.is_as_new(now));
    }

    fn serve_all(&mut self, now: Duration, out: &mut Vec<Effect>) {
        let models: Vec<ModelRef> = self.queues.keys().cloned().collect();
        for model in models {
            self.serve(&model, now, out);
        }
    }

    /// Gives waiting requests of the model to workers, and asks for a worker where none is.
    fn serve(&mut self, model: &ModelRef, now: Duration, out: &mut Vec<Effect>) {
        let Some(queue) = self.queues.remove(model) else {
            return;
        };
        let mut left = VecDeque::with_capacity(queue.len());
        let mut failed = Vec::new();
        // Requests behind one that finds no worker find none either, when they want the same.
        let mut blocked: Option<(Want, Wait)> = None;
        let waiting = queue.len();
        for id in queue {
            let Some(request) = self.requests.get(&id) else {
                continue;
            };
            let wait = match &blocked {
                Some((want, wait)) if *want == request.want => Err(Ok(*wait)),
                _ => self.place(&id, waiting, now, out),
            };
            match wait {
                Ok(()) => {}
                Err(Ok(wait)) => {
                    let Some(request) = self.requests.get_mut(&id) else {
                        continue;
                    };
                    if blocked.is_none() {
                        blocked = Some((request.want.clone(), wait));
                    }
                    let news = request.told.is_none_or(|told| {
                        std::mem::discriminant(&told) != std::mem::discriminant(&wait)
                    });
                    if news {
                        request.told = Some(wait);
                        out.push(Effect::Waits(id.clone(), wait));
                    }
                    left.push_back(id);
                }
                Err(Err(error)) => failed.push((id, *error)),
            }
        }
        if !left.is_empty() {
            self.queues.insert(model.clone(), left);
        }
        for (id, error) in failed {
            let told = self.unserved(&id, &error);
            self.fail(&id, told, out);
        }
    }

    /// Assigns one request, or tells why it waits, or why it need not.
    fn place(
        &mut self,
        id: &RequestId,
        waiting: usize,
        now: Duration,
        out: &mut Vec<Effect>,
    ) -> Result<(), Result<Wait, Box<Diagnostic>>> {
        let Some(request) = self.requests.get_mut(id) else {
            return Ok(());
        };
        let filter = filter(&request.want);
        let best = self.registry.candidates(&filter, now).min_by_key(|c| {
            let avoided = request
                .avoid
                .as_ref()
                .is_some_and(|a| a.worker == c.info.id && a.generation == c.info.generation);
            let load = 1000 - u64::from(c.free_slots) * 1000 / u64::from(c.info.slots_total.max(1));
            (avoided, load, std::cmp::Reverse(c.free_slots), &c.info.id)
        });
        if let Some(candidate) = best {
            request.attempts += 1;
            let assignment = Assignment {
                worker: candidate.info.clone(),
                attempt: request.attempts,
            };
            let lease = assignment.lease();
            self.registry.reserve(&lease);
            request.running = Some(Running { lease, since: now });
            request.told = None;
            out.push(Effect::Assign(id.clone(), Box::new(assignment)));
            return Ok(());
        }
        match self.registry.prospect(&filter, now) {
            Prospect::Serving => return Err(Ok(Wait::Busy { waiting })),
            Prospect::Loading => return Err(Ok(Wait::Loading)),
            Prospect::Nobody => {}
        }
        let target = self.target_of(&self.requests[id].want);
        let state = self.targets.entry(target.clone()).or_default();
        match state.readiness(now) {
            Readiness::UnderWay => Err(Ok(Wait::Loading)),
            Readiness::Now => {
                state.begin();
                out.push(Effect::Spawn(target));
                Err(Ok(Wait::Loading))
            }
            Readiness::After(left) => Err(Ok(Wait::Backoff { left })),
            Readiness::Broken(left) => Err(Err(Box::new(broken(&target, state, left)))),
        }
    }

    /// What a request without a worker is told: the loss of the one it had, if it had one.
    fn unserved(&self, id: &RequestId, error: &Diagnostic) -> Diagnostic {
        match self.requests.get(id).and_then(|r| r.loss.clone()) {
            None => error.clone(),
            Some(mut loss) => {
                loss.message = format!("{}; there is no other worker: {error}", loss.message);
                loss
            }
        }
    }

    fn fail(&mut self, id: &RequestId, error: Diagnostic, out: &mut Vec<Effect>) {
        if self.take(id).is_some() {
            if error.code == Code::Cancelled {
                self.counts.cancelled += 1;
            } else {
                self.counts.failed += 1;
            }
            out.push(Effect::Fail(id.clone(), error));
        }
    }

    /// Forgets a request, and its place in a queue.
    fn take(&mut self, id: &RequestId) -> Option<Request> {
        let request = self.requests.remove(id)?;
        if request.running.is_none()
            && let Some(queue) = self.queues.get_mut(&request.want.model)
        {
            queue.retain(|waiting| waiting != id);
            if queue.is_empty() {
                self.queues.remove(&request.want.model);
            }
        }
        Some(request)
    }

    fn retry_after_seconds(&self, model: &ModelRef, waiting: usize) -> u64 {
        let service = self.service.get(model).copied().unwrap_or_default();
        let slots: u32 = self
            .registry
            .snapshot(
                &Filter {
                    model: Some(model.clone()),
                    ..Filter::default()
                },
                Duration::ZERO,
            )
            .iter()
            .map(|worker| worker.info.slots_total)
            .sum();
        let seconds = service.as_secs_f64() * waiting as f64 / f64::from(slots.max(1));
        (seconds.ceil() as u64).clamp(RETRY_AFTER_SECONDS.0, RETRY_AFTER_SECONDS.1)
    }
}

fn filter(want: &Want) -> Filter {
    Filter {
        model: Some(want.model.clone()),
        node: want.node.clone(),
        backend: want.backend,
        status: None,
    }
}

/// The target that a worker is at, for a request that asked for this backend.
fn target_served_by(info: &WorkerInfo, asked: Option<Backend>) -> Target {
    Target {
        model: info.model_id.clone(),
        node: info.hive_id.clone(),
        backend: backend_of(info.device, asked),
    }
}

/// The backend of a target whose worker is on this device. A GPU serves the backend that was
/// asked for; only one kind of GPU exists on a node.
fn backend_of(device: DeviceId, asked: Option<Backend>) -> Backend {
    match device {
        DeviceId::Cpu(_) => Backend::Cpu,
        DeviceId::Gpu(_) => asked.unwrap_or(Backend::Cuda),
    }
}

fn broken(target: &Target, state: &TargetState, left: Duration) -> Diagnostic {
    let seconds = left.as_secs().max(1);
    let (code, cause) = match state.last_error() {
        Some(error) => (error.code, error.message.as_str()),
        None => (Code::WorkerCrashed, "its workers crashed"),
    };
    Diagnostic::new(
        code,
        format!(
            "{} failed too often on {}; the next attempt is in {seconds} s; the last error: {cause}",
            target.model, target.node
        ),
    )
    .hint("see `rbee-keeper worker list` and the worker's log")
    .detail("retry_after_seconds", seconds)
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
