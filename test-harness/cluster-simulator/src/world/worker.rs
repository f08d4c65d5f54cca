//! What surrounds the batching of a worker: loading, requests, heartbeats, the end.

use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use jiff::Timestamp;
use worker_contract::{
    HEARTBEAT_SECONDS, KvCacheUse, SamplingValues, WorkerHeartbeat, WorkerInfo, WorkerStatus,
};

use crate::{
    Bug,
    fault::FaultKind,
    message::{Event, InferCall, ProcessIndex, Reply, StreamItem, ToProcess, ToQueen},
    promise::Promise,
    world::network::Way,
    world::process::{self, Ended, Generating, Output, Stage},
    world::{World, token},
};

const HEARTBEAT: Duration = Duration::from_secs(HEARTBEAT_SECONDS);
/// Minimum time between two heartbeats.
const HEARTBEAT_GAP: Duration = Duration::from_millis(100);
/// How often a loading process reports its progress.
const LOAD_STEP: Duration = Duration::from_millis(250);
/// Time that a process takes to exit after it was asked to.
const EXIT_TAKES: Duration = Duration::from_millis(50);

impl World<'_> {
    pub(crate) fn process_event(&mut self, index: ProcessIndex, message: ToProcess) {
        let process = &self.processes[index];
        let node = process.node;
        if process.is_dead() {
            // The kernel of a machine that runs refuses the connection.
            if self.is_powered(node) {
                match message {
                    ToProcess::Infer(call) => {
                        self.reset(node, call.request, call.connection, Duration::ZERO);
                    }
                    ToProcess::Info(call) | ToProcess::CancelCall(call, _) => {
                        self.reply(node, call, Reply::Refused);
                    }
                    _ => {}
                }
            }
            return;
        }
        if process.frozen_until > self.now && !matches!(message, ToProcess::Exit) {
            let until = process.frozen_until;
            self.at(until, Event::Process(index, message));
            return;
        }
        match message {
            ToProcess::Infer(call) => self.infer(index, &call),
            ToProcess::Close(connection) => {
                if self.bug != Some(Bug::IgnoreCancel) && self.processes[index].cancel(connection) {
                    self.begin_step(index);
                }
            }
            ToProcess::Info(call) => {
                let last_step = self.processes[index].last_step;
                let since = last_step.map(|last| self.now.saturating_sub(last));
                self.reply(node, call, Reply::Info(since));
            }
            ToProcess::CancelCall(call, connection) => {
                if self.bug != Some(Bug::IgnoreCancel) && self.processes[index].cancel(connection) {
                    self.begin_step(index);
                }
                self.reply(node, call, Reply::Cancelled);
            }
            ToProcess::HeartbeatReply { number, fenced } => {
                self.heartbeat_reply(index, number, fenced);
            }
            ToProcess::HeartbeatDue(timer) => {
                if self.processes[index].heartbeats.timer == timer {
                    self.send_heartbeat(index);
                }
            }
            ToProcess::HeartbeatLimit(number) => {
                let heartbeats = &mut self.processes[index].heartbeats;
                if heartbeats.in_flight && heartbeats.sequence == number + 1 {
                    heartbeats.in_flight = false;
                    self.send_heartbeat(index);
                }
            }
            ToProcess::Load => self.load(index),
            ToProcess::StepDone => self.end_step(index),
            ToProcess::Wake => self.begin_step(index),
            ToProcess::Drain => {
                if self.processes[index].stage != Stage::Draining {
                    self.processes[index].stage = Stage::Draining;
                    self.status_changed(index);
                }
                self.exit_when_drained(index);
            }
            ToProcess::Terminate => {
                let running = self.processes[index].take_all();
                for generating in running {
                    let error = Diagnostic::new(Code::Draining, "the worker is stopping");
                    self.stream_item(node, &generating, StreamItem::Error(Box::new(error)));
                }
                self.exit(index, true);
            }
            ToProcess::Exit => self.exit(index, false),
        }
    }

    fn infer(&mut self, index: ProcessIndex, call: &InferCall) {
        let lies = self.node_has(self.processes[index].node, FaultKind::Lying);
        let skew = self.skew(self.processes[index].node);
        let plan = &self.plan_of(call.request);
        let (number, model, wanted) = (plan.number, plan.model, plan.output_tokens);
        let mut prompt = process::prompt(number, model, plan.prompt_tokens);
        prompt.extend_from_slice(&call.continue_from);
        if self.processes[index].is_fenced {
            let worker = self.processes[index].spawn.worker.clone();
            self.violate(
                Promise::Fence,
                format!("worker {worker} serves, but it was fenced"),
            );
        }
        let process = &self.processes[index];
        let node = process.node;
        let generating = Generating {
            request: call.request,
            connection: call.connection,
            tokens: call.continue_from.len() as u32,
            wanted,
            cancelled: false,
            orphan_since: None,
            arrives: Duration::ZERO,
        };
        // A skewed clock moves the deadline.
        let remaining = (call.deadline.as_micros() as i128) - (self.now.as_micros() as i128) - skew;
        let refusal = match process.stage {
            Stage::Loading => Some(Code::NotReady),
            Stage::Draining | Stage::Dead => Some(Code::Draining),
            Stage::Ready if process.slots_free() == 0 => Some(Code::AllSlotsBusy),
            Stage::Ready if remaining <= 0 => Some(Code::DeadlineExceeded),
            Stage::Ready if lies && self.random.happens(100) => Some(Code::Internal),
            Stage::Ready => None,
        };
        if let Some(code) = refusal {
            let error = Box::new(Diagnostic::new(code, "refused by the worker"));
            self.stream_item(node, &generating, StreamItem::Error(error));
            return;
        }
        if generating.tokens >= wanted {
            self.stream_item(node, &generating, StreamItem::End);
            return;
        }
        let deadline = self.now + Duration::from_micros(remaining as u64);
        let deadline = process::deadline(self.origin, deadline);
        self.processes[index].accept(generating, prompt, deadline);
        self.begin_step(index);
    }

    /// Sends what a step made of a request. Returns when it arrives.
    pub(crate) fn send_output(&mut self, index: ProcessIndex, output: &Output) -> Duration {
        let node = self.processes[index].node;
        let mut generating = output.generating.clone();
        if self.processes[index].is_fenced {
            let worker = self.processes[index].spawn.worker.clone();
            self.violate(
                Promise::Fence,
                format!("worker {worker} serves, but it was fenced"),
            );
        }
        if let Some(position) = output.token {
            let mut items = vec![position];
            if self.planted(Bug::SwapTokens) && output.ended.is_none() {
                self.processes[index]
                    .swapped
                    .insert(generating.connection, position);
                items.clear();
            } else if let Some(held) = self.processes[index].swapped.remove(&generating.connection)
            {
                items.push(held);
            }
            for position in items {
                let item = StreamItem::Token(token(generating.request, position));
                generating.arrives = self.stream_item(node, &generating, item);
            }
        }
        let item = match output.ended {
            None => return generating.arrives,
            Some(Ended::Complete) => StreamItem::End,
            Some(Ended::Expired) => {
                let code = Code::DeadlineExceeded;
                StreamItem::Error(Box::new(Diagnostic::new(code, "the deadline has passed")))
            }
            Some(Ended::Overlong) => {
                let code = Code::ContextLengthExceeded;
                StreamItem::Error(Box::new(Diagnostic::new(code, "too long")))
            }
        };
        self.stream_item(node, &generating, item)
    }

    fn stream_item(&mut self, node: usize, generating: &Generating, item: StreamItem) -> Duration {
        let Generating {
            request,
            connection,
            arrives,
            ..
        } = *generating;
        let event = Event::Queen(ToQueen::Stream(request, connection, item));
        self.stream(node, Way::From, arrives, event)
    }

    /// The connection of a request breaks at the worker's side.
    fn reset(&mut self, node: usize, request: usize, connection: u64, after: Duration) {
        let event = Event::Queen(ToQueen::Stream(request, connection, StreamItem::Reset));
        self.stream(node, Way::From, after, event);
    }

    fn load(&mut self, index: ProcessIndex) {
        let node = self.processes[index].node;
        if self.processes[index].stage != Stage::Loading {
            return;
        }
        let listens = self.now.saturating_sub(self.processes[index].started) >= process::BOOT;
        if listens {
            let slow = if self.node_has(node, FaultKind::SlowDisk) {
                20
            } else {
                1
            };
            let load_ms = self.plan.models[self.processes[index].model].load_ms.max(1) * slow;
            let done = LOAD_STEP.as_millis() as u64 * 1_000_000 / load_ms;
            let loaded = &mut self.processes[index].loaded;
            *loaded = (*loaded + done).min(1_000_000);
        }
        if self.processes[index].heartbeats.sequence == 0 && listens {
            self.send_heartbeat(index);
        }
        if self.processes[index].loaded == 1_000_000 {
            self.processes[index].stage = Stage::Ready;
            self.status_changed(index);
        } else {
            self.at(self.now + LOAD_STEP, Event::Process(index, ToProcess::Load));
        }
    }

    pub(crate) fn info(&self, index: ProcessIndex) -> WorkerInfo {
        let process = &self.processes[index];
        let lies = self.node_has(process.node, FaultKind::Lying);
        let slots = self.plan.slots;
        WorkerInfo {
            id: process.spawn.worker.clone(),
            generation: process.spawn.generation,
            hive_id: self.names.nodes[process.node].clone(),
            model_id: self.names.models[process.model].clone(),
            device: process.device,
            port: 1,
            pid: index as u32 + 1,
            status: if lies {
                WorkerStatus::Ready
            } else {
                process.status()
            },
            implementation: String::new(),
            version: String::new(),
            capabilities: Vec::new(),
            slots_total: slots,
            slots_free: if lies { slots } else { process.slots_free() },
            queue_depth: 0,
            context_length: 4096,
            sampling: SamplingValues::default(),
            memory_bytes: if lies { 1 } else { process.allocated() },
            kv_cache: KvCacheUse::default(),
            prefix_digest: None,
            last_step_ms: process
                .last_step
                .map(|last| self.now.saturating_sub(last).as_millis() as u64),
        }
    }

    pub(crate) fn status_changed(&mut self, index: ProcessIndex) {
        let process = &mut self.processes[index];
        let status = process.status();
        let heartbeats = &mut process.heartbeats;
        if heartbeats.in_flight || heartbeats.status.is_none_or(|sent| sent == status) {
            return;
        }
        heartbeats.status = None;
        heartbeats.timer += 1;
        let (timer, due) = (heartbeats.timer, heartbeats.sent + HEARTBEAT_GAP);
        self.at(
            due.max(self.now),
            Event::Process(index, ToProcess::HeartbeatDue(timer)),
        );
    }

    fn send_heartbeat(&mut self, index: ProcessIndex) {
        let worker = self.info(index);
        let node = self.processes[index].node;
        let status = self.processes[index].status();
        let heartbeats = &mut self.processes[index].heartbeats;
        let number = heartbeats.sequence;
        heartbeats.sequence += 1;
        heartbeats.timer += 1;
        heartbeats.sent = self.now;
        heartbeats.status = Some(status);
        heartbeats.in_flight = true;
        let heartbeat = Box::new(WorkerHeartbeat {
            worker,
            timestamp: Timestamp::UNIX_EPOCH,
            sequence: number,
        });
        self.send(
            node,
            Way::From,
            Event::Queen(ToQueen::Heartbeat(index, heartbeat)),
        );
        let limit = ToProcess::HeartbeatLimit(number);
        self.at(self.now + HEARTBEAT, Event::Process(index, limit));
    }

    fn heartbeat_reply(&mut self, index: ProcessIndex, number: u64, fenced: bool) {
        if fenced {
            self.processes[index].is_fenced = true;
            if !self.planted(Bug::IgnoreFence) {
                self.exit(index, true);
            }
            return;
        }
        let heartbeats = &mut self.processes[index].heartbeats;
        if !heartbeats.in_flight || heartbeats.sequence != number + 1 {
            return;
        }
        heartbeats.in_flight = false;
        heartbeats.timer += 1;
        let (timer, due) = (heartbeats.timer, heartbeats.sent + HEARTBEAT);
        self.at(due, Event::Process(index, ToProcess::HeartbeatDue(timer)));
        self.status_changed(index);
    }

    pub(crate) fn exit_when_drained(&mut self, index: ProcessIndex) {
        let process = &self.processes[index];
        if process.stage == Stage::Draining && process.sequences() == 0 {
            let due = self.now + EXIT_TAKES;
            self.at(due, Event::Process(index, ToProcess::Terminate));
        }
    }

    /// Ends a process. `orderly`: it sends a last heartbeat.
    pub(crate) fn exit(&mut self, index: ProcessIndex, orderly: bool) {
        if self.processes[index].is_dead() {
            return;
        }
        let node = self.processes[index].node;
        if orderly {
            let mut worker = self.info(index);
            worker.status = WorkerStatus::Stopped;
            let heartbeat = Box::new(WorkerHeartbeat {
                worker,
                timestamp: Timestamp::UNIX_EPOCH,
                sequence: self.processes[index].heartbeats.sequence,
            });
            self.send(
                node,
                Way::From,
                Event::Queen(ToQueen::Heartbeat(index, heartbeat)),
            );
        }
        let running = self.processes[index].take_all();
        self.processes[index].stage = Stage::Dead;
        if self.is_powered(node) {
            for generating in running {
                self.reset(
                    node,
                    generating.request,
                    generating.connection,
                    generating.arrives,
                );
            }
        }
    }
}
