//! What the queen knows of the nodes.

use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use input_validation::{Backend, DeviceId};
use scheduler::{DeviceFacts, NodeFacts, NodeMap, NodeState, SchedulerEvent};

use crate::{
    message::{Event, HiveCall, Number, Purpose, Reply},
    world::{World, relay::Phase},
};

/// How often the hives are asked whether they respond, and for how long.
const POLL: Duration = Duration::from_secs(2);
const POLL_LIMIT: Duration = Duration::from_secs(4);
/// A link that is silent for this long is lost, with all its connections.
const LINK_SILENCE: Duration = Duration::from_secs(12);
/// A hive that does not answer for this long is down.
const DOWN_AFTER: Duration = Duration::from_secs(30);
/// How often the free memory of the nodes is compared.
const MEMORY_POLL: Duration = Duration::from_secs(10);

/// What the queen knows of a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    linked: bool,
    answers: bool,
    /// When anything on the node responded last.
    heard: Duration,
    /// When its hive answered last.
    answered: Duration,
    pub(crate) free: Vec<u64>,
}

impl View {
    pub(super) fn unknown_since(now: Duration) -> Self {
        Self {
            heard: now,
            answered: now,
            ..Self::default()
        }
    }

    /// Whether connections to the node are possible.
    pub(crate) fn is_up(&self) -> bool {
        self.linked
    }

    pub(crate) fn has_hive(&self) -> bool {
        self.linked && self.answers
    }

    pub(crate) fn state(&self, now: Duration) -> NodeState {
        if self.has_hive() {
            NodeState::Up
        } else if now.saturating_sub(self.answered) >= DOWN_AFTER {
            NodeState::Down(Diagnostic::new(Code::HiveUnreachable, "the node is down"))
        } else {
            NodeState::Starting
        }
    }
}

impl World<'_> {
    pub(crate) fn poll(&mut self, run: u32) {
        if self.queen.run != run || self.queen.is_down {
            return;
        }
        for node in 0..self.plan.nodes.len() {
            self.call_hive(node, HiveCall::Ping, Purpose::Ping, POLL_LIMIT);
        }
        self.update_nodes();
        self.at(self.now + POLL, Event::Poll(run));
    }

    pub(super) fn ping_answered(&mut self, node: usize, reply: &Reply) {
        let now = self.now;
        let view = &mut self.queen.views[node];
        let was = (view.linked, view.answers);
        match reply {
            Reply::Pong(free) => {
                view.linked = true;
                view.answers = true;
                view.heard = now;
                view.answered = now;
                view.free.clone_from(free);
            }
            Reply::Refused => {
                view.linked = true;
                view.answers = false;
                view.heard = now;
            }
            _ if now.saturating_sub(view.heard) >= LINK_SILENCE => view.linked = false,
            _ => {}
        }
        let is = (view.linked, view.answers);
        if is != was {
            if was.0 && !is.0 {
                self.lose_link(node);
            }
            self.update_nodes();
        }
    }

    /// All connections of a node break.
    pub(super) fn lose_link(&mut self, node: usize) {
        for index in 0..self.requests.len() {
            if matches!(&self.requests[index].phase, Phase::Running(attempt) if attempt.node == node)
            {
                self.link_lost(index, "the link is lost");
            }
        }
        let calls = self
            .queen
            .calls
            .iter()
            .filter(|(_, call)| call.node == node);
        let calls: Vec<Number> = calls.map(|(number, _)| *number).collect();
        for call in calls {
            self.answered(call, &Reply::Lost);
        }
        self.hive_lost_for_tasks(node);
    }

    /// Gives the scheduler what is known of the nodes, if that has changed.
    pub(super) fn update_nodes(&mut self) {
        let now = self.now;
        let has_memory = now.saturating_sub(self.queen.memory_compared) >= MEMORY_POLL;
        let is_same = |view: &View, known: &NodeFacts| {
            std::mem::discriminant(&view.state(now)) == std::mem::discriminant(&known.state)
        };
        let known = self.queen.nodes.values();
        let is_known = self.queen.nodes.len() == self.queen.views.len();
        let states = self
            .queen
            .views
            .iter()
            .zip(known)
            .all(|(view, known)| is_same(view, known));
        if is_known && states && !has_memory {
            return;
        }
        self.queen.memory_compared = now;
        let mut nodes = NodeMap::new();
        for (index, view) in self.queen.views.iter().enumerate() {
            let plan = &self.plan.nodes[index];
            let mut devices = Vec::new();
            if !view.free.is_empty() {
                devices.push(facts(DeviceId::Cpu(0), view.free[0]));
                devices.extend(
                    view.free[1..]
                        .iter()
                        .zip(0..)
                        .map(|(free, index)| facts(DeviceId::Gpu(index), *free)),
                );
            }
            let models = plan.models.iter().map(|model| {
                (
                    self.names.models[*model].clone(),
                    self.plan.models[*model].bytes,
                )
            });
            let facts = NodeFacts {
                state: view.state(now),
                devices,
                models: models.collect(),
                yielded: std::collections::BTreeMap::new(),
            };
            nodes.insert(self.names.nodes[index].clone(), facts);
        }
        if nodes != self.queen.nodes {
            self.queen.nodes = nodes.clone();
            self.scheduler_event(SchedulerEvent::Nodes(nodes));
        }
    }
}

fn facts(id: DeviceId, free_bytes: u64) -> DeviceFacts {
    let backend = match id {
        DeviceId::Cpu(_) => Backend::Cpu,
        DeviceId::Gpu(_) => Backend::Cuda,
    };
    DeviceFacts {
        id,
        backend,
        free_bytes,
        has_worker: true,
    }
}
