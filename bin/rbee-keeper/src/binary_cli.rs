use std::path::PathBuf;

use clap::{Args, Subcommand};
use input_validation::{
    BinaryVersion, BranchName, FeatureName, NodeName, PackageId, RepositoryUrl, WorkerType,
};

use crate::values::parse;

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerBinary {
    /// List the worker binaries on a node
    List(OfNode),
    /// Show the versions of a worker binary
    Show(OfType),
    /// List the packages of a node's catalog, or show one of them with its PKGBUILD
    Catalog(OfPackage),
    /// Make a worker binary available: one that is installed, else built or downloaded
    #[command(
        after_help = "Examples:\n  rbee-keeper worker-binary provision llm-cpu-worker-rbee --repository https://git.example/rbee\n  rbee-keeper worker-binary provision llm-cuda-worker-rbee --features cuda --node gpu-box\n  rbee-keeper worker-binary provision llm-cpu-worker-rbee --url https://example.org/worker --sha256 HASH\n  rbee-keeper worker-binary provision llama-cpp-cpu --package llama-cpp-cpu --approve"
    )]
    Provision(Box<Provision>),
    /// Remove the versions of a worker binary that no worker runs from
    Remove(OfVersion),
    /// Let new workers run the version before, or another one; running workers keep theirs
    Rollback(OfVersion),
}

#[derive(Debug, Args)]
pub(crate) struct OfNode {
    /// Node whose binaries are meant [default: local]
    #[arg(long, value_name = "NAME", value_parser = parse::<NodeName>)]
    pub(crate) node: Option<NodeName>,
}

#[derive(Debug, Args)]
pub(crate) struct OfType {
    /// Type of the worker, for example llm-cpu-worker-rbee
    #[arg(value_name = "TYPE", value_parser = parse::<WorkerType>)]
    pub(crate) worker_type: WorkerType,
    #[command(flatten)]
    pub(crate) node: OfNode,
}

#[derive(Debug, Args)]
pub(crate) struct OfPackage {
    /// Package to show [default: list all]
    #[arg(value_name = "PACKAGE", value_parser = parse::<PackageId>)]
    pub(crate) package: Option<PackageId>,
    #[command(flatten)]
    pub(crate) node: OfNode,
}

#[derive(Debug, Args)]
pub(crate) struct OfVersion {
    #[command(flatten)]
    pub(crate) of: OfType,
    /// Installed version, as `worker-binary list` shows it, for example 0.1.0-2 [default: remove:
    /// all; rollback: the one before the current one]
    #[arg(long, value_name = "VERSION", value_parser = parse::<BinaryVersion>)]
    pub(crate) version: Option<BinaryVersion>,
}

#[derive(Debug, Args)]
pub(crate) struct Provision {
    #[command(flatten)]
    pub(crate) of: OfType,
    /// Feature of cargo to build with; several are separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = parse::<FeatureName>)]
    pub(crate) features: Vec<FeatureName>,
    /// Obtain it although it is installed, from a clean checkout
    #[arg(long)]
    pub(crate) force_rebuild: bool,
    /// Build from this git repository [default: that of the hive]
    #[arg(long, value_name = "URL", conflicts_with = "url", value_parser = parse::<RepositoryUrl>)]
    pub(crate) repository: Option<RepositoryUrl>,
    /// Build this branch or tag [default: that of the repository]
    #[arg(long, value_name = "BRANCH", conflicts_with = "url", value_parser = parse::<BranchName>)]
    pub(crate) branch: Option<BranchName>,
    /// Download this file
    #[arg(long, value_name = "URL", requires = "sha256")]
    pub(crate) url: Option<String>,
    /// SHA-256 of that file
    #[arg(long, value_name = "HASH", requires = "url")]
    pub(crate) sha256: Option<String>,
    /// File with the signature of that file, by minisign
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) signature: Option<PathBuf>,
    /// Build the package of this PKGBUILD in a sandbox; text files beside it are sent along. What
    /// is not a file is a package of the node's catalog
    #[arg(long, value_name = "FILE|PACKAGE", conflicts_with_all = ["url", "repository", "branch"])]
    pub(crate) package: Option<PathBuf>,
    /// Agree to run that PKGBUILD: the SHA-256 of its text, which you have read; without it, agree
    /// to all versions of a package that the key of the catalog signs
    #[arg(long, value_name = "HASH", requires = "package")]
    #[expect(clippy::option_option, reason = "an option whose value is optional")]
    pub(crate) approve: Option<Option<String>>,
    /// Build this package of a PKGBUILD that has several
    #[arg(long, value_name = "NAME", requires = "package")]
    pub(crate) package_name: Option<String>,
    /// Accept sources of that PKGBUILD that have no checksum
    #[arg(long, requires = "package")]
    pub(crate) allow_unverified: bool,
    /// Refuse a binary of another version
    #[arg(long, value_name = "VERSION", value_parser = parse::<BinaryVersion>)]
    pub(crate) version: Option<BinaryVersion>,
}
