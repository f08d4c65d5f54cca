//! The hive of the queen's own machine: find it, start it when none runs, keep it running,
//! stop it. A hive outlives the queen unless it is stopped.

mod local;
mod log;
mod supervisor;

pub use local::{LocalHive, RunningHive};
pub use supervisor::{HiveState, Supervisor};
