use input_validation::Backend;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ModelFormat;

/// Where an engine is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineSource {
    /// It is part of rbee.
    BuiltIn,
    /// A file in the directory `engines` of the hive's home describes it.
    Configured,
    /// It was installed from a package.
    Package,
}

/// Engine of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineEntry {
    /// Name by which users choose it.
    pub name: String,
    /// Where it is from.
    pub source: EngineSource,
    /// Protocol that it speaks: `llama-cpp`; absent for the one of rbee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub kind: Option<String>,
    /// Program that it is, or URL at which it runs; absent for the one of rbee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub place: Option<String>,
    /// Formats of models that it runs.
    pub formats: Vec<ModelFormat>,
    /// Backends that it computes on.
    pub backends: Vec<Backend>,
    /// Why it cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub problem: Option<EngineProblem>,
}

/// Response of the queen's `GET /v1/engines`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineList {
    /// Engines of the node, in the order in which they are tried; then those that cannot be used.
    pub engines: Vec<EngineEntry>,
}

/// Why an engine cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineProblem {
    /// What is wrong, as a sentence.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub hint: Option<String>,
}

/// The engine that runs the model of a worker, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineDecision {
    /// Name of the engine.
    pub engine: String,
    /// Why, in one sentence.
    pub reason: String,
    /// The engines that were considered.
    pub candidates: Vec<EngineCandidate>,
}

/// Engine that was considered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineCandidate {
    /// Name of the engine.
    pub name: String,
    /// Whether it was chosen.
    pub chosen: bool,
    /// Why, or why not.
    pub note: String,
}
