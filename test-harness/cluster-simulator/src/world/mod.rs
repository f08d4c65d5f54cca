//! One run: the virtual clock, the events in their order, and what fails when.

mod calls;
mod check;
mod deployments;
mod ending;
mod faults;
mod hive;
mod network;
mod policies;
mod probes;
mod process;
mod queen;
mod relay;
mod silence;
mod spawning;
mod stops;
mod views;
mod worker;

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use hive::Hive;
use input_validation::{DeviceId, ModelRef, NodeName, WorkerId};
use jiff::Timestamp;
use network::Link;
use process::Process;
use queen::Queen;
use queen_contract::Assigned;
use relay::Request;
use scheduler::SchedulerSettings;

use crate::{
    Bug,
    fault::Fault,
    message::{Event, Number, ProcessIndex, ToProcess},
    plan::{Plan, RequestPlan},
    promise::Violation,
    random::{Random, mix},
};

/// The stream of random numbers of the network; see [`Random::new`].
const NETWORK: u64 = 4;
/// Time from the end of the last fault to the first probe: longer than the scheduler remembers
/// failed spawns.
const RECOVERY: Duration = Duration::from_secs(330);

/// Number of decisions that a report shows.
const DECISIONS: usize = 40;

struct Scheduled {
    at: Duration,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest event is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// The names of everything.
pub(crate) struct Names {
    pub(crate) nodes: Vec<NodeName>,
    pub(crate) models: Vec<ModelRef>,
    nobody: WorkerId,
}

impl Names {
    fn new(plan: &Plan) -> anyhow::Result<Self> {
        let nodes = (0..plan.nodes.len()).map(|node| format!("n{node}").parse());
        let models = (0..plan.models.len()).map(|model| format!("mock:m={model}").parse());
        Ok(Self {
            nodes: nodes.collect::<Result<_, _>>()?,
            models: models.collect::<Result<_, _>>()?,
            nobody: "nobody".parse()?,
        })
    }

    /// The worker of a model at a place.
    pub(crate) fn worker(&self, model: usize, node: usize, device: DeviceId) -> WorkerId {
        let device = match device {
            DeviceId::Cpu(_) => "c".to_owned(),
            DeviceId::Gpu(index) => format!("g{index}"),
        };
        let name = format!("w-{model}-{node}-{device}").parse();
        name.unwrap_or_else(|_| self.nobody.clone())
    }
}

pub(crate) struct World<'p> {
    pub(crate) plan: &'p Plan,
    pub(crate) bug: Option<Bug>,
    occasions: u64,
    pub(crate) now: Duration,
    /// What the times of the batching are relative to. It is never compared with the real time.
    pub(crate) origin: Instant,
    events: BinaryHeap<Scheduled>,
    next_event: u64,
    next_number: Number,
    pub(crate) random: Random,
    trace: u64,
    pub(crate) names: Names,
    pub(crate) nobody: Assigned,
    pub(crate) links: Vec<Link>,
    /// The other faults of each node.
    faults: Vec<Vec<Fault>>,
    pub(crate) queen: Queen,
    pub(crate) hives: Vec<Hive>,
    pub(crate) processes: Vec<Process>,
    pub(crate) requests: Vec<Request>,
    probes: Vec<RequestPlan>,
    pub(crate) waiting: usize,
    pub(crate) running: usize,
    pub(crate) ended: usize,
    pub(crate) refused: u64,
    pub(crate) moved: u64,
    pub(crate) continued: u64,
    pub(crate) tokens: u64,
    counts: [u64; 3],
    is_over: bool,
    pub(crate) violation: Option<Violation>,
}

/// What happened in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub completed: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// Of the failed ones, those that the queue had no place for, or the queen was down for.
    pub refused: u64,
    /// Requests that ran on more than one worker.
    pub moved: u64,
    /// Attempts that continued after tokens of an earlier one.
    pub continued: u64,
    pub tokens: u64,
    /// Processes of workers that were started.
    pub processes: u64,
    pub events: u64,
    /// Virtual time of the run.
    pub time: Duration,
    /// A digest of all events in their order: equal for equal runs.
    pub trace: u64,
    pub violation: Option<Violation>,
    /// The latest decisions of the scheduler before the violation.
    pub decisions: Vec<String>,
}

/// A token of a request: all attempts produce the same one at a position.
pub(crate) fn token(request: usize, position: u32) -> u32 {
    mix((request as u64) << 32 | u64::from(position)) as u32
}

impl<'p> World<'p> {
    pub(crate) fn new(plan: &'p Plan, bug: Option<Bug>) -> anyhow::Result<Self> {
        let nodes = plan.nodes.len();
        let at = |node: usize, is_network: bool| {
            let here = plan.faults.iter().filter(move |fault| fault.node == node);
            let matching =
                here.filter(move |fault| faults::is_of_network(fault.kind) == is_network);
            matching.copied().collect::<Vec<_>>()
        };
        let names = Names::new(plan)?;
        let nobody = Assigned {
            worker: names.nobody.clone(),
            node: names.nodes[0].clone(),
            device: DeviceId::Cpu(0),
            attempt: 1,
        };
        Ok(Self {
            plan,
            bug,
            occasions: 0,
            now: Duration::ZERO,
            origin: Instant::now(),
            events: BinaryHeap::new(),
            next_event: 0,
            next_number: 0,
            random: Random::new(plan.seed, NETWORK),
            trace: plan.seed,
            names,
            nobody,
            links: (0..nodes).map(|node| Link(at(node, true))).collect(),
            faults: (0..nodes).map(|node| at(node, false)).collect(),
            queen: Queen::new(nodes, SchedulerSettings::default()),
            hives: (0..nodes).map(|_| Hive::default()).collect(),
            processes: Vec::new(),
            requests: plan.requests.iter().map(|_| Request::new()).collect(),
            probes: Vec::new(),
            waiting: 0,
            running: 0,
            ended: 0,
            refused: 0,
            moved: 0,
            continued: 0,
            tokens: 0,
            counts: [0; 3],
            is_over: false,
            violation: None,
        })
    }

    pub(crate) fn run(mut self) -> Report {
        self.start_queen();
        for (index, fault) in self.plan.faults.iter().enumerate() {
            self.at(fault.from(), Event::FaultBegins(index));
            self.at(fault.until(), Event::FaultEnds(index));
        }
        for (index, change) in self.plan.deployments.iter().enumerate() {
            self.at(change.at(), Event::Deploy(index));
        }
        if !self.plan.requests.is_empty() {
            self.at(self.plan.requests[0].at(), Event::Arrive(0));
        }
        let recovery = if self.plan.faults.is_empty() && self.plan.deployments.is_empty() {
            Duration::from_secs(5)
        } else {
            RECOVERY
        };
        self.at(self.plan.calm() + recovery, Event::Probe(0));
        while let Some(Scheduled { at, number, event }) = self.events.pop() {
            self.now = at;
            self.trace = mix(self.trace ^ at.as_nanos() as u64 ^ number.rotate_left(40));
            self.dispatch(event);
            if self.is_over || self.violation.is_some() {
                break;
            }
        }
        let [completed, failed, cancelled] = self.counts;
        let decisions = self
            .violation
            .as_ref()
            .map_or_else(Vec::new, |_| self.decisions());
        Report {
            completed,
            failed,
            cancelled,
            refused: self.refused,
            moved: self.moved,
            continued: self.continued,
            tokens: self.tokens,
            processes: self.processes.len() as u64,
            events: self.next_event,
            time: self.now,
            trace: self.trace,
            violation: self.violation,
            decisions,
        }
    }

    fn decisions(&self) -> Vec<String> {
        let started = self.queen.started;
        let time = |at: Duration| {
            let since = i64::try_from((at + started).as_nanos()).unwrap_or(i64::MAX);
            Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_nanos(since)
        };
        let decisions = self.queen.scheduler.decisions(None, DECISIONS, time);
        let texts = decisions.iter().map(serde_json::to_string);
        texts.map(Result::unwrap_or_default).collect()
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Arrive(index) => {
                // One arrival at a time is among the events.
                if let Some(next) = self.plan.requests.get(index + 1) {
                    self.at(next.at(), Event::Arrive(index + 1));
                }
                self.arrive(index);
            }
            Event::Cancel(index) => self.client_leaves(index),
            Event::Tick(run) => {
                self.check_workers();
                self.tick(run);
            }
            Event::Poll(run) => self.poll(run),
            Event::Queen(message) => self.queen_event(message),
            Event::Hive(node, message) => self.hive_event(node, message),
            Event::Process(process, message) => self.process_event(process, message),
            Event::Deadline(index) => self.deadline_passed(index),
            Event::Silence(index, connection) => self.examine_silence(index, connection),
            Event::Unreachable(index, connection) => {
                if self.running_attempt(index, connection).is_some() {
                    self.link_lost(index, "no connection");
                }
            }
            Event::CallLimit(call) => self.answered(call, &crate::message::Reply::Lost),
            Event::Task(task) => self.continue_task(task),
            Event::Job(node, job, run) => self.continue_job(node, job, run),
            Event::Stop(node, stop, run) => self.continue_stop(node, stop, run),
            Event::Deploy(change) => self.deploy(change),
            Event::FaultBegins(index) => self.fault_begins(index),
            Event::FaultEnds(index) => self.fault_ends(index),
            Event::Probe(model) => self.probe(model),
            Event::End => {
                self.is_over = true;
                self.check_end();
            }
        }
    }

    pub(crate) fn at(&mut self, at: Duration, event: Event) {
        let number = self.next_event;
        self.next_event += 1;
        self.events.push(Scheduled { at, number, event });
    }

    pub(crate) fn number(&mut self) -> Number {
        self.next_number += 1;
        self.next_number
    }

    /// Whether the planted bug shows at this occasion: at every second one.
    pub(crate) fn planted(&mut self, bug: Bug) -> bool {
        if self.bug != Some(bug) {
            return false;
        }
        self.occasions += 1;
        self.occasions.is_multiple_of(2)
    }

    pub(crate) fn plan_of(&self, index: usize) -> &RequestPlan {
        let requests = &self.plan.requests;
        match requests.get(index) {
            Some(plan) => plan,
            None => &self.probes[index - requests.len()],
        }
    }

    pub(crate) fn step_done_at(&mut self, process: ProcessIndex, at: Duration) {
        self.at(at, Event::Process(process, ToProcess::StepDone));
    }

    pub(crate) fn wake_process_at(&mut self, process: ProcessIndex, at: Duration) {
        self.at(at, Event::Process(process, ToProcess::Wake));
    }
}
