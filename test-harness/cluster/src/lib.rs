//! A queen with several nodes on one machine: real processes, each in a home of its own.

mod cluster;
mod hive;
mod machine;
mod process;

pub use cluster::Cluster;
pub use hive::HiveProcess;
pub use machine::Machine;
