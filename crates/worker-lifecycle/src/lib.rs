//! Spawns, lists and stops worker processes. The run directory is the only memory: a hive
//! that starts anew knows every worker that an earlier one spawned.
//!
//! [`Workers`] is the shell that acts. What it decides, it decides in [`Launch`] and
//! [`Stop`], which are plain state machines: `(state, event, now) -> effects`.

mod admission;
mod binaries;
mod devices;
mod exit;
mod launch;
mod log_file;
mod ports;
mod process_table;
mod record;
mod run_dir;
mod spawn;
mod starting;
mod stop;
mod stopping;
mod workers;

pub use admission::{Admission, Existing, admit};
pub use binaries::WorkerBinaries;
pub use devices::{Machine, MockProbe, Probe, SystemProbe, require_device};
pub use exit::Exit;
pub use launch::{Launch, LaunchEffect, LaunchEvent, LaunchFailure, StartLimits};
pub use ports::{PortRange, Ports};
pub use stop::{Stop, StopEffect, StopEvent, StopLimits};
pub use workers::{Settings, Workers};
