use std::{path::PathBuf, sync::Arc};

use daemon_shell::Token;
use engine_catalog::EngineCatalog;
use input_validation::{NodeName, PortRange};
use state_files::WorkerDirs;
use worker_provisioning::Provisioner;

use crate::{start_sequence::StartLimits, stop_sequence::StopLimits};

/// How workers are run on this machine.
pub struct LifecycleSettings {
    /// Name of this node, passed to each worker.
    pub hive_id: NodeName,
    /// Directories of the workers.
    pub runs: WorkerDirs,
    /// The worker binaries.
    pub binaries: Arc<Provisioner>,
    /// The engines that run models.
    pub engines: EngineCatalog,
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
