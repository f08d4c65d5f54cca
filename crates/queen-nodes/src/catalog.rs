use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use hive_contract::InstalledModel;
use input_validation::{ModelRef, NodeName};
use worker_contract::{Capability, WorkerInfo};

/// Number of models that are remembered, with their capabilities.
const REMEMBERED_MODELS: usize = 128;

/// A model and the nodes that have its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeModel {
    pub entry: InstalledModel,
    pub nodes: Vec<NodeName>,
}

/// Models and their capabilities, known without calling a hive.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// The last list of each node.
    models: Mutex<BTreeMap<NodeName, Vec<InstalledModel>>>,
    /// Models that are in no list, in the order in which they were described.
    described: Mutex<Vec<InstalledModel>>,
    /// Capabilities of each model's last worker, most recent heartbeat last.
    capabilities: Mutex<Vec<(ModelRef, Vec<Capability>)>>,
}

impl Catalog {
    pub(crate) fn set_models(&self, node: NodeName, models: Vec<InstalledModel>) {
        let mut known = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(node, models);
    }

    pub(crate) fn models(&self) -> Vec<NodeModel> {
        let known = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let mut merged: BTreeMap<ModelRef, NodeModel> = BTreeMap::new();
        for (node, models) in known.iter() {
            for entry in models {
                merged
                    .entry(entry.model.clone())
                    .or_insert_with(|| NodeModel {
                        entry: entry.clone(),
                        nodes: Vec::new(),
                    })
                    .nodes
                    .push(node.clone());
            }
        }
        merged.into_values().collect()
    }

    pub(crate) fn model(&self, model: &ModelRef) -> Option<InstalledModel> {
        let known = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = known.values().flatten();
        let listed = entries.find(|entry| entry.model == *model).cloned();
        listed.or_else(|| {
            let described = self
                .described
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            described
                .iter()
                .find(|entry| entry.model == *model)
                .cloned()
        })
    }

    pub(crate) fn describe(&self, entry: InstalledModel) {
        let mut described = self
            .described
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        described.retain(|known| known.model != entry.model);
        if described.len() == REMEMBERED_MODELS {
            described.remove(0);
        }
        described.push(entry);
    }

    pub(crate) fn remember(&self, worker: &WorkerInfo) {
        let mut known = self
            .capabilities
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.retain(|(model, _)| *model != worker.model_id);
        if known.len() == REMEMBERED_MODELS {
            known.remove(0);
        }
        known.push((worker.model_id.clone(), worker.capabilities.clone()));
    }

    pub(crate) fn capabilities(&self, model: &ModelRef) -> Vec<Capability> {
        let known = self
            .capabilities
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|(known, _)| known == model);
        found.map_or_else(Vec::new, |(_, capabilities)| capabilities.clone())
    }
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

    fn model(name: &str) -> InstalledModel {
        serde_json::from_value(json!({
            "model": name, "format": "gguf", "size_bytes": 1, "architecture": "llama",
            "quantization": "F16", "context_length": 512, "parameters": 1,
        }))
        .unwrap()
    }

    #[test]
    fn the_last_capabilities_of_each_model_are_remembered() {
        let catalog = Catalog::default();
        let capabilities = |model: &str| catalog.capabilities(&model.parse().unwrap());
        catalog.remember(&worker("mock:a=1", &["embed"]));
        catalog.remember(&worker("mock:a=1", &["tools"]));
        assert_eq!(capabilities("mock:a=1"), [Capability::Tools]);
        assert_eq!(capabilities("mock:a=2"), []);
        for n in 2..=REMEMBERED_MODELS {
            catalog.remember(&worker(&format!("mock:a={n}"), &[]));
        }
        assert_eq!(capabilities("mock:a=1"), [Capability::Tools]);
        catalog.remember(&worker("mock:b=1", &[]));
        assert_eq!(capabilities("mock:a=1"), [], "the oldest is forgotten");
    }

    #[test]
    fn models_are_listed_once_with_all_nodes_that_have_them() {
        let catalog = Catalog::default();
        let node = |name: &str| name.parse::<NodeName>().unwrap();
        catalog.set_models(node("local"), vec![model("builtin:b"), model("builtin:a")]);
        catalog.set_models(node("attic"), vec![model("builtin:b")]);
        let listed: Vec<(String, Vec<NodeName>)> = catalog
            .models()
            .into_iter()
            .map(|model| (model.entry.model.to_string(), model.nodes))
            .collect();
        let expected = [
            ("builtin:a".to_owned(), vec![node("local")]),
            ("builtin:b".to_owned(), vec![node("attic"), node("local")]),
        ];
        assert_eq!(listed, expected);
    }
}
