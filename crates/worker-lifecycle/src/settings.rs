use std::path::PathBuf;

use daemon_shell::Token;
use input_validation::{NodeName, PortRange};
use state_files::WorkerDirs;

use crate::{binaries::WorkerBinaries, start_sequence::StartLimits, stop_sequence::StopLimits};

/// How workers are run on this machine.
#[derive(Debug)]
pub struct LifecycleSettings {
    /// Name of this node, passed to each worker.
    pub hive_id: NodeName,
    /// Directories of the workers.
    pub runs: WorkerDirs,
    /// The worker binaries.
    pub binaries: WorkerBinaries,
    /// Ports that workers listen on.
    pub ports: PortRange,
    /// The node's token, for calls to workers.
    pub token: Token,
    /// File of the token, passed to workers in their environment.
    pub token_file: PathBuf,
    /// Time limits of a start.
    pub start_limits: StartLimits,
    /// Time limits of a stop.
    pub stop_limits: StopLimits,
}
