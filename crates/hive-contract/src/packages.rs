use std::collections::BTreeMap;

use input_validation::{BinaryVersion, PackageId, WorkerType};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Response of `GET /v1/worker-binaries/catalog`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PackageList {
    /// URL of the catalog.
    pub catalog: String,
    /// Public key that it is signed with.
    pub key: String,
    /// Number of its release.
    pub sequence: u64,
    /// Its packages, in order of their ids.
    pub packages: Vec<CatalogPackage>,
}

/// A package of a catalog, as its publisher describes it, and what this machine has of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CatalogPackage {
    /// Its id.
    pub id: PackageId,
    /// Its version.
    pub version: BinaryVersion,
    /// What it is, in one line.
    pub description: String,
    /// Type of the workers that it provides.
    pub worker_type: WorkerType,
    /// What its sources are: `source`, `binary` or `python`.
    pub packaging: String,
    /// Engine that it provides; absent if it provides a worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub engine: Option<String>,
    /// Architectures of machines that it is for; `any` is all.
    pub machines: Vec<String>,
    /// Whether this machine is one of them.
    pub for_this_machine: bool,
    /// File formats of models that it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<String>,
    /// Architectures of models; `any` is all that the engine itself accepts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// Types of tensors; `any` is all that the engine itself accepts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tensor_types: Vec<String>,
    /// Backends that it computes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<String>,
    /// What it can do besides generating text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// SHA-256 of its PKGBUILD, in hexadecimal.
    pub pkgbuild_sha256: String,
    /// Whether the user has agreed to run it.
    pub approved: bool,
    /// Installation that is from this package, the newest one; absent if none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub installation: Option<BinaryVersion>,
    /// Whether that installation is from another version of the package.
    pub outdated: bool,
}

/// Response of `GET /v1/worker-binaries/catalog/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PackageDetails {
    /// The package.
    pub package: CatalogPackage,
    /// Text of its PKGBUILD.
    pub pkgbuild: String,
    /// SHA-256 of its local files, in hexadecimal, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}
