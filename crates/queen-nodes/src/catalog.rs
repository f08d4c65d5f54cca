use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use hive_contract::{AliasEntry, InstalledModel, InstalledModelList};
use input_validation::{ModelAlias, ModelRef, NodeName};
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
    models: Mutex<BTreeMap<NodeName, InstalledModelList>>,
    auto_pull: AtomicBool,
    /// Models that are in no list, in the order in which they were described.
    described: Mutex<Vec<InstalledModel>>,
    /// Capabilities of each model's last worker, most recent heartbeat last.
    capabilities: Mutex<Vec<(ModelRef, Vec<Capability>)>>,
}

impl Catalog {
    pub(crate) fn set_models(&self, node: NodeName, list: InstalledModelList) {
        self.lists().insert(node, list);
    }

    /// The references of the models whose files are on a node.
    pub(crate) fn models_of(&self, node: &NodeName) -> BTreeSet<ModelRef> {
        let lists = self.lists();
        let models = lists.get(node).into_iter().flat_map(|list| &list.models);
        models.map(|entry| entry.model.clone()).collect()
    }

    /// The same models, with the bytes of their files.
    pub(crate) fn model_bytes_of(&self, node: &NodeName) -> BTreeMap<ModelRef, u64> {
        let lists = self.lists();
        let models = lists.get(node).into_iter().flat_map(|list| &list.models);
        models
            .map(|entry| (entry.model.clone(), entry.size_bytes))
            .collect()
    }

    pub(crate) fn forget_node(&self, node: &NodeName) {
        self.lists().remove(node);
    }

    fn lists(&self) -> MutexGuard<'_, BTreeMap<NodeName, InstalledModelList>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn allow_auto_pull(&self) {
        self.auto_pull.store(true, Ordering::Relaxed);
    }

    /// Whether a request may fetch this model.
    pub(crate) fn may_pull(&self, model: &ModelRef) -> bool {
        is_fetched(model) && self.auto_pull.load(Ordering::Relaxed)
    }

    /// The aliases of all nodes by name, and their notices.
    pub(crate) fn aliases_and_notices(&self) -> (Vec<AliasEntry>, Vec<String>) {
        let lists = self.lists();
        let mut aliases: Vec<AliasEntry> = Vec::new();
        for entry in lists.values().flat_map(|list| &list.aliases) {
            if aliases.iter().all(|known| known.name != entry.name) {
                aliases.push(entry.clone());
            }
        }
        aliases.sort_by(|a, b| a.name.cmp(&b.name));
        let notices = lists.iter().flat_map(|(node, list)| {
            list.notices
                .iter()
                .map(move |notice| format!("node {node}: {notice}"))
        });
        (aliases, notices.collect())
    }

    /// The model that a name stands for.
    pub(crate) fn alias(&self, name: &str) -> Option<ModelRef> {
        let name: ModelAlias = name.parse().ok()?;
        let target = {
            let lists = self.lists();
            let mut aliases = lists.values().flat_map(|list| &list.aliases);
            aliases
                .find(|entry| entry.name == name)
                .map(|entry| entry.model.clone())
        };
        // Ollama's clients name a model of its registry without the source.
        let of_ollama = || format!("ollama:{name}").parse().ok();
        match target {
            Some(model) => Some(self.listed_as(model)),
            None => of_ollama()
                .map(|model| self.listed_as(model))
                .filter(|model| self.model(model).is_some()),
        }
    }

    /// The reference by which the nodes list a model.
    pub(crate) fn canonical(&self, model: ModelRef) -> ModelRef {
        // Short names are parsed as those of built-in models.
        if let ModelRef::Builtin { name, variant } = &model
            && self.model(&model).is_none()
        {
            let alias = match variant {
                Some(variant) => self.alias(&format!("{name}:{variant}")),
                None => self.alias(name),
            };
            return alias.unwrap_or(model);
        }
        self.listed_as(model)
    }

    fn listed_as(&self, model: ModelRef) -> ModelRef {
        let lists = self.lists();
        let mut entries = lists.values().flat_map(|list| &list.models);
        let listed = entries.find(|entry| entry.also.contains(&model));
        listed.map_or(model, |entry| entry.model.clone())
    }

    pub(crate) fn models(&self) -> Vec<NodeModel> {
        let known = self.lists();
        let mut merged: BTreeMap<ModelRef, NodeModel> = BTreeMap::new();
        for (node, list) in known.iter() {
            for entry in &list.models {
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

    /// The nodes from which the files of a fetched model can be copied, at this revision if one is
    /// given.
    pub(crate) fn holders(&self, model: &ModelRef, revision: Option<&str>) -> Vec<NodeName> {
        let has = |entry: &InstalledModel| {
            let files = entry.files.as_ref().filter(|files| files.problem.is_none());
            let own = files.and_then(|files| files.revision.as_deref());
            (entry.model == *model || entry.also.contains(model))
                && own.is_some_and(|own| revision.is_none_or(|asked| asked == own))
        };
        let lists = self.lists();
        let holders = lists.iter().filter(|(_, list)| list.models.iter().any(has));
        holders.map(|(node, _)| node.clone()).collect()
    }

    /// Whether a node has a model, as far as is known.
    pub(crate) fn is_on(&self, node: &NodeName, model: &ModelRef) -> bool {
        let lists = self.lists();
        let list = lists.get(node);
        list.is_some_and(|list| list.models.iter().any(|entry| entry.model == *model))
    }

    pub(crate) fn model(&self, model: &ModelRef) -> Option<InstalledModel> {
        let known = self.lists();
        let mut entries = known.values().flat_map(|list| &list.models);
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

    /// Remembers a model that no node lists. One that is fetched is known while a node has its
    /// files only.
    pub(crate) fn describe(&self, entry: InstalledModel) {
        if is_fetched(&entry.model) {
            return;
        }
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

/// Whether the files of a model come from a vendor.
pub(crate) fn is_fetched(model: &ModelRef) -> bool {
    matches!(model, ModelRef::Hub { .. } | ModelRef::Ollama { .. })
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
    fn a_fetched_model_is_known_while_a_node_lists_it_only() {
        let catalog = Catalog::default();
        for name in ["file:/m.gguf", "hf:org/repo", "ollama:tiny:135m"] {
            catalog.describe(model(name));
        }
        let known = |name: &str| catalog.model(&name.parse().unwrap()).is_some();
        assert!(known("file:/m.gguf"));
        assert!(!known("hf:org/repo") && !known("ollama:tiny:135m"));
    }

    #[test]
    fn models_are_listed_once_with_all_nodes_that_have_them() {
        let catalog = Catalog::default();
        let node = |name: &str| name.parse::<NodeName>().unwrap();
        let list = |names: &[&str]| InstalledModelList {
            models: names.iter().map(|name| model(name)).collect(),
            aliases: Vec::new(),
            notices: Vec::new(),
        };
        catalog.set_models(node("local"), list(&["builtin:b", "builtin:a"]));
        catalog.set_models(node("attic"), list(&["builtin:b"]));
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

    #[test]
    fn fetched_files_without_a_problem_can_be_copied() {
        let catalog = Catalog::default();
        let fetched = |revision: Option<&str>, problem: Option<&str>| {
            let mut entry = model("hf:org/repo:Q4_0");
            entry.also = vec!["hf:org/repo".parse().unwrap()];
            let files = json!({"path": "/m", "revision": revision, "sha256": "00",
                "added_at": "2026-01-01T00:00:00Z", "problem": problem});
            entry.files = Some(serde_json::from_value(files).unwrap());
            entry
        };
        for (node, entry) in [
            ("a", fetched(Some("c1"), None)),
            ("b", fetched(Some("c2"), None)),
            ("damaged", fetched(Some("c1"), Some("damaged"))),
            ("of-user", fetched(None, None)),
            ("builtin", model("builtin:haiku")),
        ] {
            let list = InstalledModelList {
                models: vec![entry],
                aliases: Vec::new(),
                notices: Vec::new(),
            };
            catalog.set_models(node.parse().unwrap(), list);
        }
        let holders = |name: &str, revision: Option<&str>| {
            let holders = catalog.holders(&name.parse().unwrap(), revision);
            holders.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(holders("hf:org/repo", None), ["a", "b"]);
        assert_eq!(holders("hf:org/repo:Q4_0", Some("c2")), ["b"]);
        assert_eq!(holders("hf:org/repo:Q4_0", Some("c3")), [""; 0]);
        assert_eq!(holders("builtin:haiku", None), [""; 0]);
    }

    #[test]
    fn names_stand_for_the_reference_that_is_listed() {
        let catalog = Catalog::default();
        let mut fetched = model("hf:org/repo:Q4_0");
        fetched.also = vec!["hf:org/repo".parse().unwrap()];
        let alias = |name: &str, model: &str| AliasEntry {
            name: name.parse().unwrap(),
            model: model.parse().unwrap(),
            shipped: false,
        };
        catalog.set_models(
            "local".parse().unwrap(),
            InstalledModelList {
                models: vec![model("builtin:haiku"), fetched],
                aliases: vec![
                    alias("smol", "hf:org/repo"),
                    alias("me/smol:1", "hf:org/repo"),
                    alias("haiku", "hf:org/repo"),
                    alias("far", "ollama:far"),
                ],
                notices: vec!["rebuilt".into()],
            },
        );
        for (name, expected) in [
            ("hf:org/repo", "hf:org/repo:Q4_0"),
            ("hf:org/repo:Q4_0", "hf:org/repo:Q4_0"),
            ("hf:org/other", "hf:org/other"),
            ("builtin:smol", "hf:org/repo:Q4_0"),
            ("builtin:far", "ollama:far"),
            ("builtin:haiku", "builtin:haiku"),
            ("builtin:none", "builtin:none"),
        ] {
            let canonical = catalog.canonical(name.parse().unwrap());
            assert_eq!(canonical.to_string(), expected, "{name}");
        }
        let named = |name: &str| catalog.alias(name).map(|model| model.to_string());
        assert_eq!(named("smol:latest").as_deref(), Some("hf:org/repo:Q4_0"));
        assert_eq!(named("me/smol:1").as_deref(), Some("hf:org/repo:Q4_0"));
        assert_eq!(named("none"), None);
        let (aliases, notices) = catalog.aliases_and_notices();
        assert_eq!(aliases.len(), 4);
        assert_eq!(notices, ["node local: rebuilt"]);
    }
}
