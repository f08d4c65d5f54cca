use std::{ffi::OsString, path::PathBuf, sync::Arc};

use file_transfer::TransferSettings;
use input_validation::{BranchName, RepositoryUrl};
use state_files::Home;
use worker_catalog::Catalog;

/// How cargo builds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BuildProfile {
    /// `--release`.
    #[default]
    Release,
    /// The profile `dev`, for tests.
    Dev,
}

/// Where worker binaries are from and where they are kept.
#[derive(Debug, Clone)]
pub struct ProvisionSettings {
    /// The state of this machine.
    pub home: Home,
    /// Directory with the worker binaries of the hive's own release.
    pub release_dir: PathBuf,
    /// Version of the hive.
    pub version: &'static str,
    /// Repository to build from. If there is one, a binary that a worker needs is built when it is
    /// missing.
    pub repository: Option<RepositoryUrl>,
    /// Branch or tag of that repository. Default: that of the repository.
    pub branch: Option<BranchName>,
    /// How binaries are built.
    pub profile: BuildProfile,
    /// Public key of minisign, in base64. If there is one, a download must be signed with it.
    pub download_key: Option<String>,
    /// Directories of programs, as in `PATH`.
    pub path: OsString,
    /// Directory of the CUDA toolkit.
    pub cuda: PathBuf,
    /// Catalog of packages.
    pub packages: Option<Arc<Catalog>>,
    /// Directories with toolchains outside `/usr` that builds of packages can read.
    pub toolchains: Vec<PathBuf>,
    /// Compute capability of this machine's GPU of NVIDIA, such as `9.0`, for builds of packages.
    pub compute_capability: Option<String>,
    /// Limits of downloads.
    pub transfers: TransferSettings,
}

impl ProvisionSettings {
    /// Settings without a repository and a key, with the workers of a release.
    pub fn new(home: Home, release_dir: PathBuf, version: &'static str) -> Self {
        Self {
            home,
            release_dir,
            version,
            repository: None,
            branch: None,
            profile: BuildProfile::default(),
            download_key: None,
            path: OsString::new(),
            cuda: PathBuf::from("/usr/local/cuda"),
            packages: None,
            toolchains: Vec::new(),
            compute_capability: None,
            transfers: TransferSettings::default(),
        }
    }
}
