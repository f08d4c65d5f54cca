//! A queen in this process, and hives in processes and homes of their own that are its nodes.

mod hive;
mod queen;

pub use hive::HiveProcess;
pub use queen::Cluster;
