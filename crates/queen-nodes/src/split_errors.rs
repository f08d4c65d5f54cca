//! The errors of models that are split over machines.

use diagnostics::{Code, Diagnostic};
use hive_contract::{EngineEntry, SPLIT_ENGINE};
use input_validation::{Backend, ModelRef, NodeName};

/// The values of a deployment contradict each other.
pub(crate) fn invalid(model: &ModelRef, problem: &str) -> Diagnostic {
    let message = format!("{model} cannot be split so: {problem}");
    Diagnostic::new(Code::InvalidRequest, message)
        .hint(
            "`--split NODE,NODE` names the machines of one worker, which is the only one of its \
             model",
        )
        .param("split")
}

/// Nothing is known of its layers, or the engine is not llama.cpp.
pub(crate) fn not_divisible(model: &ModelRef) -> Diagnostic {
    let message = format!("{model} cannot be split: its layers are not known");
    Diagnostic::new(Code::UnsupportedModel, message).hint("use the GGUF file of the model")
}

pub(crate) fn no_device(node: &NodeName, backend: Backend) -> Diagnostic {
    let message = format!("node {node} has no device of backend {backend} that can be used");
    Diagnostic::new(Code::BackendUnavailable, message)
        .hint("all parts of a model compute on one kind of device: name it with `--backend`")
}

pub(crate) fn no_part_engine(node: &NodeName, backend: Backend) -> Diagnostic {
    let message =
        format!("node {node} has no engine that computes parts of models with backend {backend}");
    Diagnostic::new(Code::NotFound, message).hint(format!(
        "install it with `rbee-keeper worker-binary provision llama-cpp-rpc --package \
         llama-cpp-rpc --node {node} --approve`, or describe an engine with `kind = \
         \"llama-cpp-rpc\"` on that machine"
    ))
}

/// The node of the worker has no engine that can share a model with others.
pub(crate) fn no_worker_engine(
    node: &NodeName,
    engines: &[EngineEntry],
    backend: Backend,
) -> Diagnostic {
    let known: Vec<&str> = engines.iter().map(|engine| engine.name.as_str()).collect();
    let known = match known.as_slice() {
        [] => "none".to_owned(),
        known => known.join(", "),
    };
    let message = format!(
        "node {node} has no server of llama.cpp that computes on {backend}, which the worker of a \
         split model needs; it has: {known}"
    );
    Diagnostic::new(Code::NotFound, message).hint(format!(
        "install one with `rbee-keeper worker-binary provision llama-cpp-cpu --package llama-cpp-cpu \
         --node {node} --approve`, or describe an engine with `kind = \"llama-cpp\"` on that \
         machine"
    ))
}

/// The engine that was named cannot share a model with others; `able` are those that can.
pub(crate) fn wrong_engine(
    node: &NodeName,
    engine: &EngineEntry,
    backend: Backend,
    able: &[&str],
) -> Diagnostic {
    let name = &engine.name;
    let problem = match &engine.problem {
        Some(problem) => format!("cannot be used: {}", problem.message),
        None if engine.kind.as_deref() == Some(SPLIT_ENGINE) => {
            format!("does not compute on {backend}")
        }
        None => "is not a server of llama.cpp, which the worker of a split model needs".to_owned(),
    };
    let error = Diagnostic::new(
        Code::InvalidRequest,
        format!("the engine {name} of node {node} {problem}"),
    )
    .param("engine");
    match able {
        [] => error.hint(format!(
            "node {node} has none; describe one with `kind = \"llama-cpp\"` on that machine"
        )),
        able => error.hint(format!("node {node} has: {}", able.join(", "))),
    }
}

/// The queen cannot make a port of this node reachable for another one.
pub(crate) fn carries_no_part(node: &NodeName) -> Diagnostic {
    let message =
        format!("node {node} cannot compute a part of a model: its link carries requests only");
    Diagnostic::new(Code::InvalidRequest, message)
        .hint("add the machine as a node by SSH: `rbee-keeper node add NAME --host HOST`")
        .param("split")
}

/// The queen cannot open a port on this node.
pub(crate) fn reaches_no_part(node: &NodeName) -> Diagnostic {
    let message = format!(
        "node {node} has the most memory, so the model's worker would run there, but its link \
         does not lead to the other machines"
    );
    Diagnostic::new(Code::InvalidRequest, message)
        .hint("add the machine as a node by SSH: `rbee-keeper node add NAME --host HOST`")
        .param("split")
}

/// An error of a part names its machine. What is missing there is not missing on the machine of
/// the worker, where making room would not help.
pub(crate) fn on_node(node: &NodeName, mut error: Diagnostic) -> Diagnostic {
    error.message = format!("the part on node {node}: {}", error.message);
    if matches!(error.code, Code::InsufficientRam | Code::InsufficientVram) {
        error.code = Code::InvalidRequest;
    }
    error
}
