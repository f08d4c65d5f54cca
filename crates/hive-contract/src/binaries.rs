use std::{collections::BTreeMap, fmt};

use input_validation::{
    BinaryVersion, BranchName, FeatureName, PackageId, RepositoryUrl, WorkerId, WorkerType,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Where a worker binary is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BinarySource {
    /// The directory of the hive's own binaries: the worker of this release.
    Local,
    /// Built on the machine from a git repository.
    Git,
    /// A file of a server.
    Download,
    /// Built on the machine from a PKGBUILD, in a sandbox.
    Package,
}

impl BinarySource {
    /// Returns the name as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Git => "git",
            Self::Download => "download",
            Self::Package => "package",
        }
    }
}

impl fmt::Display for BinarySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Body of `POST /v1/worker-binaries/provision`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct ProvisionRequest {
    /// Type of the worker.
    pub worker_type: WorkerType,
    /// Features of cargo to build with. A binary that has them, and maybe others, is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 32)]
    pub features: Vec<FeatureName>,
    /// Whether to obtain the binary although it is installed. Default: false.
    #[serde(default)]
    #[schema(default = false)]
    pub force_rebuild: bool,
    /// Where to obtain it from. Default: an installed one; else the package if `package` is
    /// present, else a download if `url` is present, else a build from the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub source: Option<BinarySource>,
    /// Version that the binary must have. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub version: Option<BinaryVersion>,
    /// Repository to build from. Default: that of the hive's settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub repository: Option<RepositoryUrl>,
    /// Branch or tag to build. Default: that of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub branch: Option<BranchName>,
    /// URL of the file to download, `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 2000)]
    pub url: Option<String>,
    /// SHA-256 of that file, in hexadecimal. Required for a download.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^[0-9a-fA-F]{64}$")]
    pub sha256: Option<String>,
    /// Signature of that file: the text of its `.minisig` file. Required if the hive has a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 2000)]
    pub signature: Option<String>,
    /// Package to build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub package: Option<PackageRequest>,
    /// Package of the hive's catalog to build, instead of `package`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub catalog_package: Option<CatalogPackageRequest>,
}

/// A package of the hive's catalog.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct CatalogPackageRequest {
    /// Its id.
    pub id: PackageId,
    /// What the user agrees to. Default: what the user has agreed to before; without that, the
    /// request fails and names the SHA-256 of the PKGBUILD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub approval: Option<CatalogApproval>,
}

/// What a user agrees to run. The hive remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum CatalogApproval {
    /// One text, which the user has read.
    Pkgbuild {
        /// SHA-256 of the PKGBUILD, in hexadecimal.
        #[schema(pattern = "^[0-9a-fA-F]{64}$")]
        sha256: String,
    },
    /// This version of the package and all later ones that the key of the catalog has signed.
    Publisher {},
}

/// A package that installs a worker as `usr/bin/TYPE`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct PackageRequest {
    /// Text of the PKGBUILD.
    #[schema(max_length = 262_144)]
    pub pkgbuild: String,
    /// Texts of the local files that it names, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// SHA-256 of the text that the user has read and agrees to run, in hexadecimal. Without it
    /// the request fails and names the SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^[0-9a-fA-F]{64}$")]
    pub approval: Option<String>,
    /// Package to build, if the PKGBUILD builds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 256)]
    pub name: Option<String>,
    /// Whether sources without a checksum are accepted. Default: false.
    #[serde(default)]
    #[schema(default = false)]
    pub allow_unverified: bool,
}

impl ProvisionRequest {
    /// Requests any binary of a type.
    pub fn of(worker_type: WorkerType) -> Self {
        Self {
            worker_type,
            features: Vec::new(),
            force_rebuild: false,
            source: None,
            version: None,
            repository: None,
            branch: None,
            url: None,
            sha256: None,
            signature: None,
            package: None,
            catalog_package: None,
        }
    }
}

/// State of an installed binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BinaryStatus {
    /// It was verified by running it, and its file has not changed since.
    Ready,
    /// Its file is missing, or was changed.
    Damaged,
}

/// Response of `POST /v1/worker-binaries/provision`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProvisionResponse {
    /// Type of the worker.
    pub worker_type: WorkerType,
    /// Version that the binary prints.
    pub version: BinaryVersion,
    /// Name of the installation: the version and a number.
    pub installation: BinaryVersion,
    /// Path of the binary.
    pub binary_path: String,
    /// Time that its build took, in seconds; 0 if it was not built.
    pub build_time_seconds: f64,
    /// Always `ready`.
    pub status: BinaryStatus,
}

/// Worker binary that is installed on a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstalledBinary {
    /// Type of the worker.
    pub worker_type: WorkerType,
    /// Version that the binary prints.
    pub version: BinaryVersion,
    /// Name of the installation: the version and a number, or `release` for the binary of the
    /// hive's own release.
    pub installation: BinaryVersion,
    /// Features that it was built with.
    pub features: Vec<FeatureName>,
    /// Path of the binary.
    pub binary_path: String,
    /// SHA-256 of the binary, in hexadecimal; absent for that of the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub sha256: Option<String>,
    /// Size of the binary, in bytes.
    pub size_bytes: u64,
    /// Time at which it was installed; absent for that of the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, nullable = false)]
    pub installed_at: Option<Timestamp>,
    /// Kind of its source.
    pub source: BinarySource,
    /// Where it is from: a repository with the commit, a URL, or a directory.
    pub origin: String,
    /// Time that its build took, in seconds; 0 if it was not built here.
    pub build_seconds: f64,
    /// State of its file.
    pub status: BinaryStatus,
    /// Whether new workers run it.
    pub current: bool,
    /// Whether its version is compatible with this hive: the same major and minor version.
    pub compatible: bool,
    /// Workers that run it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<WorkerId>,
}

/// Response of `GET /v1/worker-binaries` and `GET /v1/worker-binaries/{type}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstalledBinaryList {
    /// Binaries in order of type and time.
    pub binaries: Vec<InstalledBinary>,
    /// What users should know about the catalog, such as that it was rebuilt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// Query of `DELETE /v1/worker-binaries/{type}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct InstallationQuery {
    /// The installation to remove. Default: all of the type.
    pub installation: Option<BinaryVersion>,
}

/// Response of `DELETE /v1/worker-binaries/{type}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovedBinaries {
    /// Type of the worker.
    pub worker_type: WorkerType,
    /// The installations that were removed.
    pub removed: Vec<BinaryVersion>,
    /// Size of their files, in bytes.
    pub freed_bytes: u64,
}

/// Body of `POST /v1/worker-binaries/{type}/rollback`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RollbackRequest {
    /// The installation that new workers run from now on. Default: the newest one before the
    /// current one, else that of the release.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub installation: Option<BinaryVersion>,
}
