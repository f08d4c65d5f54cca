//! The HTTP interface of the hive: resources of its machine, models, workers, and jobs, which
//! are long operations with events. Plain data; the feature `client` adds a client.

#![warn(missing_docs)]

mod binaries;
#[cfg(feature = "client")]
mod client;
mod copies;
mod engines;
mod gpu_use;
mod jobs;
mod models;
mod packages;
mod power;
mod preflight;
mod split;
mod types;

pub use binaries::{
    BinarySource, BinaryStatus, CatalogApproval, CatalogPackageRequest, InstallationQuery,
    InstalledBinary, InstalledBinaryList, PackageRequest, ProvisionRequest, ProvisionResponse,
    RemovedBinaries, RollbackRequest,
};
#[cfg(feature = "client")]
pub use client::HiveClient;
pub use copies::{
    ContentQuery, CopySource, ManifestEntry, ManifestQuery, ModelManifest, NodePullRequest,
};
pub use engines::{
    EngineCandidate, EngineDecision, EngineEntry, EngineList, EngineProblem, EngineSource,
};
pub use gpu_use::DeviceProcess;
pub use jobs::{JobAccepted, JobEvent, JobState, JobStatus, Progress};
pub use models::{
    AliasEntry, AliasRequest, BackupRequest, FileState, InstalledModel, InstalledModelList,
    KvCacheSize, ModelDetails, ModelFormat, ModelMemory, ModelQuery, PruneRequest, PruneResponse,
    PrunedItem, PullRequest, PullResponse, RemoteModel, RemoteModelFile, RemovedModel, StoredFiles,
    UpdateResponse, VerifiedFile, VerifyResponse,
};
pub use packages::{CatalogPackage, PackageDetails, PackageList};
pub use power::{NetworkCard, Power, SuspendRequest, WakeRequest};
pub use preflight::{PreflightCheck, PreflightLevel, PreflightReport, PreflightRequest, Verdict};
pub use split::{PART_ENGINE, RemotePart, SPLIT_ENGINE, SplitRole};
pub use types::{
    Capabilities, Cpu, Device, DeviceProblem, Disk, HiveHealth, HiveShutdownRequest, Ram,
    SpawnRequest, SpawnResponse, StopQuery, StopScope, WorkerProcess, WorkerProcessList,
    WorkerState,
};

/// Beginning of `last_exit` of a worker that ran out of memory.
pub const OUT_OF_MEMORY: &str = "out of memory";
/// Version of this interface. Processes refuse peers of other versions.
pub const API_VERSION: u32 = 1;
/// Protocol of the connection between a queen and a hive of another machine, in the header
/// `upgrade`: a `node-tunnel`.
pub const LINK_PROTOCOL: &str = "rbee-link";
