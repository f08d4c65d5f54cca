//! Finds, starts, supervises and stops the hive of a node. A hive outlives the queen unless
//! it is stopped.
//!
//! A [`HiveHost`] is a machine on which a hive can run; [`LocalHive`] is the queen's own, and
//! [`DirectHive`] and [`TunnelHive`] are hives that someone else starts. A
//! [`HiveSupervisor`] keeps the hive of one host running and publishes its [`HiveState`].

mod catalog;
mod direct;
mod errors;
mod host;
mod local;
mod log_tail;
mod remote;
mod supervisor;
mod tunnelled;

pub use catalog::CatalogOptions;
pub use direct::DirectHive;
pub use host::{HiveHost, RunningHive};
pub use local::LocalHive;
pub use remote::{Release, RemoteHive, RemoteHiveConfig, Report, Source};
pub use supervisor::{HiveState, HiveSupervisor};
pub use tunnelled::TunnelHive;
