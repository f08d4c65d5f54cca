//! Spawns, lists and stops worker processes. The spawn records are the only memory: a hive that
//! is restarted knows every worker that an earlier hive spawned.
//!
//! [`Workers`] is the interface. Decisions are made in pure modules, which the others execute:
//!
//! - `admission` decides by generation whether a worker may be spawned, `preflight` by the machine
//!   and the model.
//! - `start_sequence` and `stop_sequence` are state machines: `(state, event, now) -> effects`.
//! - `process` starts a process and records its exit; `startup` and `shutdown` drive the two
//!   state machines; `spawn` combines them.

mod admission;
mod binaries;
mod errors;
mod exit;
mod exit_table;
mod host;
mod id_locks;
mod log_file;
mod part;
mod ports;
mod preflight;
mod process;
mod process_table;
mod record;
mod reservations;
mod run_dir;
mod settings;
mod shutdown;
mod spawn;
mod spawn_request;
mod start_sequence;
mod startup;
mod stop_sequence;
mod workers;

/// The state machines and the decisions about processes, without any process.
pub mod decisions {
    pub use crate::{
        admission::{Admission, Existing, admit},
        exit::Exit,
        start_sequence::{StartEffect, StartEvent, StartFailure, StartSequence},
        stop_sequence::{StopEffect, StopEvent, StopSequence},
    };
}

pub use host::worker_url;
pub use settings::LifecycleSettings;
pub use start_sequence::StartLimits;
pub use stop_sequence::StopLimits;
pub use workers::Workers;
