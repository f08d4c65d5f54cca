use std::path::Path;

use diagnostics::Diagnostic;
use engine_choice::Declaration;
use hive_contract::{Capabilities, PreflightRequest};
use input_validation::DeviceId;

use crate::model::ModelFacts;

/// The engines of a machine, for the choice.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Engines {
    /// What each can run, in the order in which they are tried.
    pub declared: Vec<Declaration>,
    /// Those that cannot be used, and why.
    pub unusable: Vec<(String, Diagnostic)>,
}

/// The start of a worker that is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerPlan<'a> {
    /// The machine as it is now.
    pub machine: &'a Capabilities,
    /// What is requested.
    pub request: &'a PreflightRequest,
    /// The requested model, or why it cannot be described; absent if none is requested.
    pub model: Option<&'a Result<ModelFacts, Diagnostic>>,
    /// The engines of the machine.
    pub engines: &'a Engines,
    /// What is freed before the start.
    pub freed: Freed,
    /// Directory of the worker binaries.
    pub worker_dir: &'a Path,
}

/// Memory of a process that is stopped before the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Main memory in bytes.
    pub ram_bytes: u64,
    /// Device whose memory it uses, in an amount that is not known.
    pub device: Option<DeviceId>,
}
