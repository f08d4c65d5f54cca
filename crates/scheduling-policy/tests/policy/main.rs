//! Scripts: what they can decide, what they cannot do, and the examples in `docs/policies.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod examples;
mod opinions;
mod sandbox;

use scheduling_policy::{Opinion, Origin, PlaceFacts, Policy, RequestFacts, WorkerFacts};

fn policy(script: &str) -> Policy {
    Policy::compile(script).unwrap()
}

fn request() -> RequestFacts {
    RequestFacts {
        origin: Origin::Request,
        model: "builtin:haiku".into(),
        model_bytes: 0,
        priority: Some("interactive".into()),
        node: None,
        backend: None,
        prompt_bytes: 100,
        failures: 0,
        waiting: 1,
        parts: Vec::new(),
    }
}

fn batch() -> RequestFacts {
    RequestFacts {
        priority: Some("batch".into()),
        ..request()
    }
}

fn worker(name: &str) -> WorkerFacts {
    WorkerFacts {
        name: name.into(),
        node: "local".into(),
        device: "CPU-0".into(),
        gpu: false,
        slots: 4,
        free_slots: 4,
        running: 0,
        prefix: 0,
        context_length: 4096,
        rank: 0,
    }
}

fn place(node: &str, backend: &str) -> PlaceFacts {
    PlaceFacts {
        node: node.into(),
        backend: backend.into(),
        device: None,
        has_files: true,
        free_bytes: 8 << 30,
        connecting: false,
        asleep: false,
        paused: false,
        broken: false,
        needs_room: false,
        rank: 0,
    }
}

fn refused(reason: &str) -> Opinion {
    Opinion::Refused(reason.into())
}
