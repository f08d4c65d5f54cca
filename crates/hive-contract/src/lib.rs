//! The hive's HTTP interface: what a machine can do, which workers run on it, and the
//! long operations on it as jobs. Plain data; the `client` feature adds the calls.

#![warn(missing_docs)]

#[cfg(feature = "client")]
mod client;
mod jobs;
mod types;

#[cfg(feature = "client")]
pub use client::HiveClient;
pub use jobs::{JobAccepted, JobEvent, JobState, JobStatus, Progress};
pub use types::{
    Capabilities, Cpu, Device, Disk, Health, ModelEntry, ModelFormat, ModelList, Ram,
    ShutdownRequest, SpawnRequest, SpawnResponse, StopQuery, WorkerEntry, WorkerList, WorkerState,
};

/// Version of this interface; a peer of another version is refused by name.
pub const API_VERSION: u32 = 1;
