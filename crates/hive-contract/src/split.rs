use input_validation::WorkerId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Kind of the engine that computes parts of models for the server of llama.cpp, as in
/// [`EngineEntry::kind`](crate::EngineEntry::kind).
pub const PART_ENGINE: &str = "llama-cpp-rpc";

/// Kind of the engine that runs the worker of a model that is split over machines.
pub const SPLIT_ENGINE: &str = "llama-cpp";

/// What a process is in a model that is split over machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum SplitRole {
    /// It computes layers for the worker of the model, which runs on another machine. It serves no
    /// requests and sends no heartbeats.
    Part {
        /// The worker.
        of: WorkerId,
        /// Memory that its layers take, in bytes.
        memory_bytes: u64,
    },
    /// It is the worker of the model; other machines compute some of the layers.
    Main {
        /// Layers that it computes itself.
        layers: u32,
        /// Those that compute the others.
        #[schema(min_items = 1)]
        parts: Vec<RemotePart>,
    },
}

/// A part of a model on another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemotePart {
    /// Port of the loopback interface that leads to it.
    #[schema(minimum = 1)]
    pub port: u16,
    /// Layers that it computes.
    #[schema(minimum = 1)]
    pub layers: u32,
}
