use std::sync::Mutex;

use diagnostics::{Code, Diagnostic, excerpt};
use hive_contract::ModelEntry;
use hive_lifecycle::HiveState;
use input_validation::ModelRef;
use tokio::sync::watch;
use worker_contract::{Capability, WorkerInfo};

/// Models whose capabilities are remembered.
const MOST_REMEMBERED: usize = 128;

/// What can be served, as the hive tells it.
#[derive(Debug)]
pub struct Models {
    hive: Option<watch::Receiver<HiveState>>,
    /// As last told.
    known: Mutex<Vec<ModelEntry>>,
    /// What workers last told that they can do with a model, the newest at the end.
    capabilities: Mutex<Vec<(ModelRef, Vec<Capability>)>>,
}

impl Models {
    /// Models of the hive; none without one.
    pub fn new(hive: Option<watch::Receiver<HiveState>>) -> Self {
        Self {
            hive,
            known: Mutex::new(Vec::new()),
            capabilities: Mutex::new(Vec::new()),
        }
    }

    /// The models that the hive has; while it does not answer, those it had.
    pub async fn list(&self) -> Vec<ModelEntry> {
        let hive = match self.hive.as_ref().map(|state| state.borrow().clone()) {
            Some(HiveState::Up(hive)) => Some(hive),
            _ => None,
        };
        if let Some(hive) = hive {
            match hive.client.models().await {
                Ok(list) => {
                    if let Ok(mut known) = self.known.lock() {
                        known.clone_from(&list.models);
                    }
                    return list.models;
                }
                Err(error) => tracing::warn!(%error, "the hive does not tell its models"),
            }
        }
        self.known.lock().map_or_else(|_| Vec::new(), |k| k.clone())
    }

    /// What is known of the model without asking the hive.
    pub fn known(&self, model: &ModelRef) -> Option<ModelEntry> {
        let known = self.known.lock().ok()?;
        known.iter().find(|entry| entry.model == *model).cloned()
    }

    /// Remembers what a worker can do with its model, for when no worker has it.
    pub fn heard(&self, worker: &WorkerInfo) {
        let Ok(mut heard) = self.capabilities.lock() else {
            return;
        };
        heard.retain(|(model, _)| *model != worker.model_id);
        if heard.len() == MOST_REMEMBERED {
            heard.remove(0);
        }
        heard.push((worker.model_id.clone(), worker.capabilities.clone()));
    }

    /// What a worker can do with the model, or could when there was one.
    pub fn capabilities(&self, model: &ModelRef) -> Vec<Capability> {
        let Ok(heard) = self.capabilities.lock() else {
            return Vec::new();
        };
        let mut of_it = heard.iter().filter(|(known, _)| known == model);
        of_it.next().map_or_else(Vec::new, |(_, can)| can.clone())
    }

    /// Checks that the model can be asked for: files and mocks are looked at by the hive,
    /// built-in models must be ones that it has.
    pub async fn check(&self, model: &ModelRef) -> Result<(), Diagnostic> {
        let built_in = matches!(model, ModelRef::Builtin { .. });
        if !built_in || self.known(model).is_some() {
            return Ok(());
        }
        let has = self.list().await;
        // Without any list nothing can be said; the spawn tells.
        if has.is_empty() || has.iter().any(|entry| entry.model == *model) {
            return Ok(());
        }
        Err(not_found(&model.to_string()))
    }
}

/// The model that an OpenAI client names.
pub fn parse(name: &str) -> Result<ModelRef, Diagnostic> {
    name.parse().map_err(|_| not_found(name))
}

/// What a model that is not there is answered with.
pub fn not_found(name: &str) -> Diagnostic {
    Diagnostic::new(
        Code::ModelNotFound,
        format!("there is no model \"{}\"", excerpt(name, 120)),
    )
    .hint("`rbee-keeper model list` and `GET /v1/models` tell what there is, for instance `builtin:haiku`")
    .param("model")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn worker(model: &str, capabilities: &[&str]) -> WorkerInfo {
        serde_json::from_value(json!({
            "id": "w-0", "generation": 1, "hive_id": "local", "model_id": model, "device": "CPU-0",
            "port": 1, "pid": 1, "status": "ready", "implementation": "mock", "version": "1",
            "capabilities": capabilities, "slots_total": 1, "slots_free": 1, "queue_depth": 0,
            "context_length": 1, "memory_bytes": 1, "kv_cache": {"total": 0, "used": 0},
        }))
        .unwrap()
    }

    #[test]
    fn the_last_capabilities_of_each_model_are_remembered() {
        let models = Models::new(None);
        let can = |model: &str| models.capabilities(&model.parse().unwrap());
        models.heard(&worker("mock:a=1", &["embed"]));
        models.heard(&worker("mock:a=1", &["tools"]));
        assert_eq!(can("mock:a=1"), [Capability::Tools]);
        assert_eq!(can("mock:a=2"), []);
        for n in 2..=MOST_REMEMBERED {
            models.heard(&worker(&format!("mock:a={n}"), &[]));
        }
        assert_eq!(can("mock:a=1"), [Capability::Tools]);
        models.heard(&worker("mock:b=1", &[]));
        assert_eq!(can("mock:a=1"), [], "the longest unheard makes room");
    }
}
