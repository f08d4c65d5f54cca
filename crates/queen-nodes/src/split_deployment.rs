//! Which deployments of split models are possible, and which of their machines has the worker.

use std::{cmp::Reverse, sync::Arc};

use diagnostics::Diagnostic;
use hive_contract::{Capabilities, EngineEntry, SPLIT_ENGINE};
use input_validation::{Backend, EngineName, NodeName};
use queen_contract::{DeploymentSpec, NodeSpec};

use crate::{
    Node, Nodes,
    split::{best_device, check_part_engine, computes_parts},
    split_errors as errors,
};

/// The kinds of devices, in the order in which they are considered.
const BACKENDS: [Backend; 3] = [Backend::Cuda, Backend::Metal, Backend::Vulkan];

impl Nodes {
    /// Checks a deployment of a split model. Returns it with its engine and backend, and with the
    /// largest machine first, which has the worker.
    pub(crate) async fn checked_split(
        &self,
        mut spec: DeploymentSpec,
    ) -> Result<DeploymentSpec, Diagnostic> {
        spec.split.sort();
        spec.split.dedup();
        if let Some(problem) = problem(&spec) {
            return Err(errors::invalid(&spec.model, problem));
        }
        let mut machines: Vec<(Arc<Node>, Capabilities)> = Vec::new();
        for name in &spec.split {
            let node = self.get(name)?;
            if !can_have_part(node.spec()) {
                return Err(errors::carries_no_part(name));
            }
            let hive = node.hive_soon().await?;
            let capabilities = hive.client.capabilities().await?;
            machines.push((node, capabilities));
        }
        let backend = spec.backend.unwrap_or_else(|| common_backend(&machines));
        let mut sizes = Vec::with_capacity(machines.len());
        for (node, machine) in &machines {
            let memory = |device: &hive_contract::Device| device.memory_total_bytes;
            let device = best_device(node.name(), machine, backend, memory)?;
            let is_local = *node.spec() == NodeSpec::Local;
            let size = (Reverse(device.memory_total_bytes), !is_local);
            sizes.push((size, node.name().clone()));
        }
        sizes.sort();
        let ordered: Vec<NodeName> = sizes.into_iter().map(|(_, name)| name).collect();
        for (node, machine) in &machines {
            if Some(node.name()) == ordered.first() {
                if !can_have_worker(node.spec()) {
                    return Err(errors::reaches_no_part(node.name()));
                }
            } else {
                check_part_engine(node.name(), machine, backend)?;
            }
        }
        let main = ordered.first().cloned();
        let mut machines = machines.iter();
        let main = machines.find(|(node, _)| Some(node.name()) == main.as_ref());
        spec.split = ordered;
        spec.backend = Some(backend);
        if let Some((node, machine)) = main {
            let engine = worker_engine(node.name(), &machine.engines, backend, spec.engine)?;
            spec.engine = Some(engine);
            self.check_possible(&spec, &[node.name().clone()]).await?;
        }
        Ok(spec)
    }
}

/// The engine of the worker: the named one, or the first one of llama.cpp that computes on the
/// backend, in the order of the hive.
fn worker_engine(
    node: &NodeName,
    engines: &[EngineEntry],
    backend: Backend,
    named: Option<EngineName>,
) -> Result<EngineName, Diagnostic> {
    let is_able = |engine: &&EngineEntry| {
        let is_server = engine.kind.as_deref() == Some(SPLIT_ENGINE) && engine.problem.is_none();
        is_server && engine.backends.contains(&backend)
    };
    let able = engines.iter().filter(is_able);
    let able: Vec<&str> = able.map(|engine| engine.name.as_str()).collect();
    match (named, able.first()) {
        (Some(named), _) if able.contains(&named.as_str()) => Ok(named),
        (Some(named), _) => {
            let mut engines = engines.iter();
            match engines.find(|engine| engine.name == named.as_str()) {
                Some(engine) => Err(errors::wrong_engine(node, engine, backend, &able)),
                // The checks before a start say so: it may be in a package that is to be installed.
                None => Ok(named),
            }
        }
        (None, Some(first)) => first.parse(),
        (None, None) => Err(errors::no_worker_engine(node, engines, backend)),
    }
}

fn problem(spec: &DeploymentSpec) -> Option<&'static str> {
    match spec {
        spec if spec.split.len() < 2 => Some("it names one machine only"),
        spec if !spec.nodes.is_empty() => Some("machines are named twice, with `nodes` as well"),
        spec if spec.max_workers() > 1 => Some("more than one worker is wanted"),
        _ => None,
    }
}

/// Whether the queen can make a port of the node reachable for another one.
fn can_have_part(spec: &NodeSpec) -> bool {
    match spec {
        NodeSpec::Local | NodeSpec::Ssh(_) => true,
        NodeSpec::Direct(node) => node.url.is_loopback() && !node.url.is_https(),
        NodeSpec::Joined => false,
    }
}

/// Whether the queen can make a port of another node reachable for processes on this one.
fn can_have_worker(spec: &NodeSpec) -> bool {
    match spec {
        NodeSpec::Local | NodeSpec::Ssh(_) => true,
        NodeSpec::Direct(_) | NodeSpec::Joined => false,
    }
}

/// The kind of GPU that all machines have, with an engine for parts on all but one of them; else
/// the CPU.
fn common_backend(machines: &[(Arc<Node>, Capabilities)]) -> Backend {
    let is_common = |backend: &Backend| {
        let have = machines
            .iter()
            .filter(|(node, machine)| best_device(node.name(), machine, *backend, |_| 0).is_ok());
        let compute = machines.iter().filter(|(_, machine)| {
            let mut engines = machine.engines.iter();
            engines.any(|engine| computes_parts(engine, *backend))
        });
        have.count() == machines.len() && compute.count() + 1 >= machines.len()
    };
    BACKENDS.into_iter().find(is_common).unwrap_or(Backend::Cpu)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_split_is_one_worker_on_several_machines() {
        let spec = |values: serde_json::Value| -> DeploymentSpec {
            let mut spec = json!({"model": "hf:org/big", "split": ["a", "b"]});
            for (name, value) in values.as_object().unwrap() {
                spec[name] = value.clone();
            }
            serde_json::from_value(spec).unwrap()
        };
        assert_eq!(problem(&spec(json!({}))), None);
        assert_eq!(problem(&spec(json!({"min_workers": 0}))), None);
        for (values, expected) in [
            (json!({"split": ["a"]}), "one machine only"),
            (json!({"nodes": ["a"]}), "named twice"),
            (json!({"min_workers": 2}), "more than one worker"),
            (json!({"max_workers": 2}), "more than one worker"),
        ] {
            let found = problem(&spec(values)).unwrap();
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn the_worker_has_the_first_engine_of_llama_cpp_unless_one_is_named() {
        let engine = |name: &str, kind: &str, backends: &[&str]| {
            json!({"name": name, "source": "configured", "kind": kind, "formats": ["gguf"],
                "backends": backends})
        };
        let machine = |engines: serde_json::Value| -> Vec<EngineEntry> {
            serde_json::from_value(engines).unwrap()
        };
        let node: NodeName = "attic".parse().unwrap();
        let chosen = |engines: &[EngineEntry], named: Option<&str>| {
            let named = named.map(|name| name.parse().unwrap());
            worker_engine(&node, engines, Backend::Cpu, named).map(|name| name.to_string())
        };
        let several = machine(json!([
            engine("vllm", "vllm", &["cpu"]),
            engine("fast", "llama-cpp", &["cuda"]),
            engine("mine", "llama-cpp", &["cpu"]),
            engine("other", "llama-cpp", &["cpu"]),
            engine("parts", "llama-cpp-rpc", &["cpu"]),
        ]));
        assert_eq!(chosen(&several, None).unwrap(), "mine");
        assert_eq!(chosen(&several, Some("other")).unwrap(), "other");
        assert_eq!(chosen(&several, Some("unknown")).unwrap(), "unknown");
        for (named, reason) in [
            ("vllm", "vllm of node attic is not a server of llama.cpp"),
            ("parts", "parts of node attic is not a server of llama.cpp"),
            ("fast", "fast of node attic does not compute on cpu"),
        ] {
            let error = chosen(&several, Some(named)).unwrap_err();
            assert!(error.message.contains(reason), "{error}");
            let hint = error.hint.unwrap();
            assert!(hint.contains("mine, other"), "{hint}");
        }
        let none = chosen(&machine(json!([engine("vllm", "vllm", &["cpu"])])), None).unwrap_err();
        assert!(
            none.message
                .contains("node attic has no server of llama.cpp"),
            "{none}"
        );
        assert!(none.message.contains("it has: vllm"), "{none}");
    }

    #[test]
    fn a_link_that_carries_requests_only_has_no_parts() {
        let direct = |url: &str| -> NodeSpec {
            serde_json::from_value(json!({"link": "direct", "url": url})).unwrap()
        };
        for (spec, part, worker) in [
            (NodeSpec::Local, true, true),
            (direct("http://127.0.0.1:8600"), true, false),
            (direct("http://192.0.2.7:8600"), false, false),
            (NodeSpec::Joined, false, false),
        ] {
            assert_eq!(
                (can_have_part(&spec), can_have_worker(&spec)),
                (part, worker),
                "{spec:?}"
            );
        }
    }
}
