//! Worker processes: the real batching of a worker, with an engine that takes virtual time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use inference_execution::{
    Batch, SequenceId,
    batching::{BatchConfig, BatchEffect, BatchScheduler, Deadline, SequenceEvent},
};
use input_validation::DeviceId;
use worker_contract::WorkerStatus;
use worker_registry::SpawnId;

use crate::{
    message::{Connection, ProcessIndex},
    world::World,
};

/// Time until a new process listens.
pub(crate) const BOOT: Duration = Duration::from_millis(300);
/// Duration of each token in a step, beside that of the step.
const TOKEN_TAKES: Duration = Duration::from_micros(100);
/// Size of a block of the KV cache, in tokens.
pub(crate) const BLOCK_TOKENS: u32 = 16;
/// Maximum number of tokens in a step.
const TOKEN_BUDGET: u32 = 256;
/// Number of tokens that all prompts for a model begin with, if they are long enough.
const SHARED_PREFIX: u32 = 24;

/// A request that a worker runs.
#[derive(Debug, Clone)]
pub(crate) struct Generating {
    pub(crate) request: usize,
    pub(crate) connection: Connection,
    /// Number of tokens of the output so far, with those of earlier workers.
    pub(crate) tokens: u32,
    pub(crate) wanted: u32,
    pub(crate) cancelled: bool,
    /// Since when the queen does not follow it any more.
    pub(crate) orphan_since: Option<Duration>,
    /// When the last event arrives at the queen.
    pub(crate) arrives: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Loading,
    Ready,
    Draining,
    Dead,
}

#[derive(Debug, Default)]
pub(crate) struct Heartbeats {
    pub(crate) sequence: u64,
    /// Number of the next timer; earlier ones are void.
    pub(crate) timer: u64,
    pub(crate) in_flight: bool,
    pub(crate) sent: Duration,
    pub(crate) status: Option<WorkerStatus>,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) spawn: SpawnId,
    pub(crate) node: usize,
    pub(crate) model: usize,
    pub(crate) device: DeviceId,
    pub(crate) bytes: u64,
    pub(crate) stage: Stage,
    pub(crate) started: Duration,
    /// Of 1,000,000.
    pub(crate) loaded: u64,
    pub(crate) frozen_until: Duration,
    pub(crate) heartbeats: Heartbeats,
    pub(crate) last_step: Option<Duration>,
    /// The queen answered that it must exit.
    pub(crate) is_fenced: bool,
    slots: u32,
    scheduler: BatchScheduler,
    batch: Batch,
    stepping: bool,
    begun: Duration,
    sequences: BTreeMap<u64, Generating>,
    next_sequence: u64,
    /// Of sequences whose tokens a planted bug exchanges.
    pub(crate) swapped: BTreeMap<Connection, u32>,
}

impl Process {
    pub(crate) fn new(
        spawn: SpawnId,
        (node, model, device): (usize, usize, DeviceId),
        bytes: u64,
        (slots, blocks): (u32, u32),
        now: Duration,
    ) -> Self {
        Self {
            spawn,
            node,
            model,
            device,
            bytes,
            stage: Stage::Loading,
            started: now,
            loaded: 0,
            frozen_until: Duration::ZERO,
            heartbeats: Heartbeats::default(),
            last_step: None,
            is_fenced: false,
            slots,
            scheduler: BatchScheduler::new(BatchConfig {
                slots,
                token_budget: TOKEN_BUDGET,
                blocks,
                block_tokens: BLOCK_TOKENS,
                prefix_cache: true,
            }),
            batch: Batch::default(),
            stepping: false,
            begun: now,
            sequences: BTreeMap::new(),
            next_sequence: 0,
            swapped: BTreeMap::new(),
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.stage == Stage::Dead
    }

    pub(crate) fn held_tokens(&self) -> usize {
        self.scheduler.held_tokens() as usize
    }

    pub(crate) fn sequences(&self) -> usize {
        self.sequences.len()
    }

    pub(crate) fn has_all_slots(&self) -> bool {
        self.slots_free() == self.slots && self.scheduler.has_free_slot()
    }

    pub(crate) fn slots_free(&self) -> u32 {
        self.slots.saturating_sub(self.sequences.len() as u32)
    }

    pub(crate) fn status(&self) -> WorkerStatus {
        match self.stage {
            Stage::Loading => WorkerStatus::Starting,
            Stage::Ready if self.slots_free() == 0 => WorkerStatus::Busy,
            Stage::Ready => WorkerStatus::Ready,
            Stage::Draining => WorkerStatus::Draining,
            Stage::Dead => WorkerStatus::Stopped,
        }
    }

    /// The memory that it has allocated so far.
    pub(crate) fn allocated(&self) -> u64 {
        if self.is_dead() {
            return 0;
        }
        (u128::from(self.bytes) * u128::from(self.loaded) / 1_000_000) as u64
    }

    pub(crate) fn accept(&mut self, generating: Generating, prompt: Vec<u32>, deadline: Deadline) {
        let id = self.next_sequence;
        self.next_sequence += 1;
        self.sequences.insert(id, generating);
        let arrived = SequenceEvent::Arrived {
            tokens: prompt,
            deadline: Some(deadline),
        };
        self.scheduler.handle(SequenceId(id), arrived);
    }

    /// Marks a request as cancelled; it is removed before the next step.
    pub(crate) fn cancel(&mut self, connection: Connection) -> bool {
        let mut all = self.sequences.values_mut();
        let found = all.find(|generating| generating.connection == connection);
        let is_open = found.is_some();
        if let Some(generating) = found {
            generating.cancelled = true;
        }
        is_open
    }

    /// Ends everything, and returns what was running.
    pub(crate) fn take_all(&mut self) -> Vec<Generating> {
        let all = std::mem::take(&mut self.sequences);
        for id in all.keys() {
            self.scheduler
                .handle(SequenceId(*id), SequenceEvent::Finished);
        }
        all.into_values().collect()
    }

    /// A request that has run for longer than `limit` although nobody follows it. The time begins
    /// again while the process is disturbed.
    pub(crate) fn orphan(
        &mut self,
        is_disturbed: bool,
        is_followed: impl Fn(usize, Connection) -> bool,
        now: Duration,
        limit: Duration,
    ) -> Option<usize> {
        for generating in self.sequences.values_mut() {
            if is_disturbed || is_followed(generating.request, generating.connection) {
                generating.orphan_since = None;
            } else if now.saturating_sub(*generating.orphan_since.get_or_insert(now)) > limit {
                return Some(generating.request);
            }
        }
        None
    }
}

/// How a sequence ended in a step.
pub(crate) enum Ended {
    Complete,
    Expired,
    Overlong,
}

/// What a step or its preparation did to a sequence.
pub(crate) struct Output {
    pub(crate) generating: Generating,
    /// The index of the new token.
    pub(crate) token: Option<u32>,
    pub(crate) ended: Option<Ended>,
    sequence: u64,
}

impl World<'_> {
    /// Prepares the next step of a process, and begins it if there is anything to compute.
    pub(crate) fn begin_step(&mut self, index: ProcessIndex) {
        if self.processes[index].stepping || self.processes[index].is_dead() {
            return;
        }
        let (origin, now) = (self.origin, self.now);
        let step = Duration::from_micros(self.plan.step_us);
        let keeps = self.planted(crate::Bug::KeepSequence);
        let process = &mut self.processes[index];
        let cancelled: Vec<u64> = process
            .sequences
            .iter()
            .filter(|(_, generating)| generating.cancelled)
            .map(|(id, _)| *id)
            .collect();
        for id in cancelled {
            process.sequences.remove(&id);
            if !keeps {
                process
                    .scheduler
                    .handle(SequenceId(id), SequenceEvent::Finished);
            }
        }
        let mut effects = Vec::new();
        let mut batch = std::mem::take(&mut process.batch);
        process
            .scheduler
            .schedule(origin + now, &mut batch, &mut effects);
        let mut outputs = Vec::new();
        for effect in effects {
            let (id, ended) = match effect {
                BatchEffect::Expired(id) => (id, Ended::Expired),
                BatchEffect::Overlong(id) => (id, Ended::Overlong),
                BatchEffect::Started { .. } | BatchEffect::Copy { .. } => continue,
            };
            process.scheduler.handle(id, SequenceEvent::Finished);
            if let Some(generating) = process.sequences.remove(&id.0) {
                outputs.push(Output {
                    generating,
                    token: None,
                    ended: Some(ended),
                    sequence: id.0,
                });
            }
        }
        let tokens: usize = batch.chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        process.batch = batch;
        if tokens > 0 {
            process.stepping = true;
            process.begun = now;
            self.step_done_at(index, now + step + TOKEN_TAKES * tokens as u32);
        } else if let Some(deadline) = process.scheduler.next_deadline() {
            self.wake_at(index, deadline);
        }
        self.send_outputs(index, outputs);
        self.status_changed(index);
        self.exit_when_drained(index);
    }

    /// Applies the step that has ended, and begins the next one.
    pub(crate) fn end_step(&mut self, index: ProcessIndex) {
        let drops = self.planted(crate::Bug::DropSampled);
        let keeps = self.planted(crate::Bug::KeepSequence);
        let now = self.now;
        let process = &mut self.processes[index];
        if process.is_dead() {
            return;
        }
        process.stepping = false;
        process.last_step = Some(now);
        let batch = std::mem::take(&mut process.batch);
        process
            .scheduler
            .computed(&batch, now.saturating_sub(process.begun));
        let mut outputs = Vec::new();
        for chunk in &batch.chunks {
            let id = chunk.sequence.0;
            let Some(generating) = process
                .sequences
                .get_mut(&id)
                .filter(|_| chunk.wants_logits)
            else {
                continue;
            };
            let token = generating.tokens;
            generating.tokens += 1;
            let is_complete = generating.tokens >= generating.wanted;
            if is_complete {
                if !keeps {
                    process
                        .scheduler
                        .handle(chunk.sequence, SequenceEvent::Finished);
                }
                if let Some(generating) = process.sequences.remove(&id) {
                    outputs.push(Output {
                        generating,
                        token: Some(token),
                        ended: Some(Ended::Complete),
                        sequence: id,
                    });
                }
                continue;
            }
            if !drops {
                let value = crate::world::token(generating.request, token);
                process
                    .scheduler
                    .handle(chunk.sequence, SequenceEvent::Sampled(value));
            }
            outputs.push(Output {
                generating: generating.clone(),
                token: Some(token),
                ended: None,
                sequence: id,
            });
        }
        process.batch = batch;
        self.send_outputs(index, outputs);
        self.begin_step(index);
    }

    fn send_outputs(&mut self, index: ProcessIndex, outputs: Vec<Output>) {
        for output in outputs {
            let arrives = self.send_output(index, &output);
            let sequences = &mut self.processes[index].sequences;
            if let Some(generating) = sequences.get_mut(&output.sequence) {
                generating.arrives = arrives;
            }
        }
    }

    fn wake_at(&mut self, index: ProcessIndex, deadline: Deadline) {
        // The deadline is an instant; the step finds the ones that have passed.
        let (mut low, mut high) = (self.now, self.now + Duration::from_secs(3600));
        while high.saturating_sub(low) > Duration::from_micros(1) {
            let middle = low + high.saturating_sub(low) / 2;
            if deadline.has_passed(self.origin + middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        self.wake_process_at(index, high);
    }
}

/// The prompt of a request: prompts for a model begin alike.
pub(crate) fn prompt(request: u32, model: usize, tokens: u32) -> Vec<u32> {
    (0..tokens)
        .map(|position| {
            let author = if position < SHARED_PREFIX {
                model as u64
            } else {
                1_000 + u64::from(request)
            };
            crate::random::mix(author << 16 | u64::from(position)) as u32
        })
        .collect()
}

/// A moment of the run as an instant of the batching.
pub(crate) fn deadline(origin: Instant, at: Duration) -> Deadline {
    Deadline::at(origin + at)
}
