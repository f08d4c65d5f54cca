use std::sync::Arc;

use diagnostics::Diagnostic;
use inference_execution::requests::Requests;
use worker_contract::EngineKind;

use crate::{
    engine::{AdapterSettings, Engine},
    errors,
    facts::Facts,
};

/// An engine that serves a worker's requests. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Adapter(Arc<Inner>);

struct Inner {
    engine: Engine,
    facts: Facts,
    requests: Arc<Requests>,
}

impl Adapter {
    pub fn new(engine: Engine, facts: Facts, requests: Arc<Requests>) -> Self {
        Self(Arc::new(Inner {
            engine,
            facts,
            requests,
        }))
    }

    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub fn settings(&self) -> &AdapterSettings {
        self.0.engine.settings()
    }

    pub fn kind(&self) -> EngineKind {
        self.0.engine.kind()
    }

    pub fn facts(&self) -> &Facts {
        &self.0.facts
    }

    pub fn requests(&self) -> &Arc<Requests> {
        &self.0.requests
    }

    /// Returns the error that refuses what the engine lacks.
    pub fn unsupported(&self, what: &str, param: &str) -> Diagnostic {
        errors::unsupported(self.kind().name(), what, param)
    }
}
