//! What scripts see. Each field is a property of the same name.

use rhai::{Dynamic, INT, Map};

/// Who needs a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Request,
    /// A deployment that lacks a worker.
    Deployment,
}

/// What is to be decided for.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestFacts {
    pub origin: Origin,
    /// Reference of the model, such as `hf:org/repo`.
    pub model: String,
    /// Bytes of the model's files; 0 if no node has them.
    pub model_bytes: u64,
    /// `interactive` or `batch`; `()` for a deployment.
    pub priority: Option<String>,
    /// Node that it requires.
    pub node: Option<String>,
    /// Backend that it requires.
    pub backend: Option<String>,
    /// Size of the prompt, in bytes of text; 0 if unknown.
    pub prompt_bytes: u64,
    /// Number of workers that failed the request so far.
    pub failures: u32,
    /// Requests that wait for the model, including this one.
    pub waiting: u64,
    /// Nodes that compute parts of the model for its worker; none if the model is not split.
    pub parts: Vec<String>,
}

/// A worker that can run the request now.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerFacts {
    /// Id of the worker.
    pub name: String,
    pub node: String,
    /// Such as `GPU-0`.
    pub device: String,
    pub gpu: bool,
    /// Requests that it can run at a time.
    pub slots: u32,
    pub free_slots: u32,
    /// Requests that it runs.
    pub running: u32,
    /// How much of the beginning of the prompt it computed before; 0: nothing.
    pub prefix: u32,
    /// Tokens of its context.
    pub context_length: u32,
    /// Position in the default order, from 0.
    pub rank: u64,
}

/// Where a worker can be started.
#[derive(Debug, Clone, PartialEq)]
pub struct PlaceFacts {
    pub node: String,
    /// `cpu`, `cuda` or `metal`.
    pub backend: String,
    /// Such as `GPU-0`, if the decision is about one device; else `()`.
    pub device: Option<String>,
    /// The files of the model are on the node.
    pub has_files: bool,
    /// Free memory of the device; 0 if unknown.
    pub free_bytes: u64,
    /// The node is still being connected.
    pub connecting: bool,
    /// The node is asleep and has to be woken.
    pub asleep: bool,
    /// A start there failed a short time ago.
    pub paused: bool,
    /// Starts there failed too often.
    pub broken: bool,
    /// Workers of other models would have to be stopped.
    pub needs_room: bool,
    /// Position in the default order, from 0.
    pub rank: u64,
}

fn whole(number: impl TryInto<INT>) -> Dynamic {
    number.try_into().unwrap_or(INT::MAX).into()
}

fn optional(text: Option<&String>) -> Dynamic {
    text.map_or(Dynamic::UNIT, Into::into)
}

fn map<const N: usize>(entries: [(&str, Dynamic); N]) -> Map {
    let entries = entries.into_iter();
    entries.map(|(name, value)| (name.into(), value)).collect()
}

impl RequestFacts {
    pub(crate) fn to_map(&self) -> Map {
        let origin = match self.origin {
            Origin::Request => "request",
            Origin::Deployment => "deployment",
        };
        map([
            ("origin", origin.into()),
            ("model", (&self.model).into()),
            ("model_bytes", whole(self.model_bytes)),
            ("priority", optional(self.priority.as_ref())),
            ("node", optional(self.node.as_ref())),
            ("backend", optional(self.backend.as_ref())),
            ("prompt_bytes", whole(self.prompt_bytes)),
            ("failures", whole(self.failures)),
            ("waiting", whole(self.waiting)),
            ("parts", self.parts.iter().cloned().collect()),
        ])
    }
}

impl WorkerFacts {
    pub(crate) fn to_map(&self) -> Map {
        map([
            ("name", (&self.name).into()),
            ("node", (&self.node).into()),
            ("device", (&self.device).into()),
            ("gpu", self.gpu.into()),
            ("slots", whole(self.slots)),
            ("free_slots", whole(self.free_slots)),
            ("running", whole(self.running)),
            ("prefix", whole(self.prefix)),
            ("context_length", whole(self.context_length)),
            ("rank", whole(self.rank)),
        ])
    }
}

impl PlaceFacts {
    pub(crate) fn to_map(&self) -> Map {
        map([
            ("node", (&self.node).into()),
            ("backend", (&self.backend).into()),
            ("device", optional(self.device.as_ref())),
            ("has_files", self.has_files.into()),
            ("free_bytes", whole(self.free_bytes)),
            ("connecting", self.connecting.into()),
            ("asleep", self.asleep.into()),
            ("paused", self.paused.into()),
            ("broken", self.broken.into()),
            ("needs_room", self.needs_room.into()),
            ("rank", whole(self.rank)),
        ])
    }
}
