use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use file_transfer::TransferSettings;
use pkgbuild::{Architecture, Version};
use sha2::{Digest as _, Sha256};

use crate::Limits;

/// That the user has agreed to run a recipe: the SHA-256 of its text, as `sha256sum PKGBUILD`
/// prints it. The text contains the checksums of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approval([u8; 32]);

impl Approval {
    /// The approval that a text needs. Only for a text that the user has seen.
    pub fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }
}

impl fmt::Display for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Approval {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).map_err(|_| "not a SHA-256 in hexadecimal")?;
        Ok(Self(digest))
    }
}

/// Settings of all builds.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Limits of each build.
    pub limits: Limits,
    /// Directories with toolchains outside `/usr`, such as the one that `rustc --print sysroot`
    /// prints. Builds can read them, and find programs in their `bin`.
    pub toolchains: Vec<PathBuf>,
    /// Directories that no build may see, also where they are below `/usr`: `RBEE_HOME`.
    pub private: Vec<PathBuf>,
    /// Compute capability of this machine's GPU of NVIDIA, such as `9.0`. Builds do not see the GPU;
    /// they find this in `CUDA_COMPUTE_CAP`, without the dot.
    pub compute_capability: Option<String>,
    /// Environment of git while it fetches: `https_proxy` and the like.
    pub fetch_environment: Vec<(String, String)>,
    /// Settings of downloads.
    pub transfer: TransferSettings,
}

/// A package to build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Text of the PKGBUILD.
    pub text: Vec<u8>,
    /// Directory with the local files that it names; `None` if it has none.
    pub local_files: Option<PathBuf>,
    /// Package to build, if the recipe builds several.
    pub package: Option<String>,
    /// Architecture of this machine.
    pub machine: Architecture,
    /// Whether the user accepts files without a checksum from this recipe.
    pub allows_unverified: bool,
    /// The text that the user has agreed to.
    pub approval: Option<Approval>,
    /// Folder for the build, which does not exist.
    pub work: PathBuf,
    /// File for the log, which is replaced.
    pub log: PathBuf,
}

/// A phase of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The values of the recipe are read.
    Evaluate,
    /// Sources are fetched.
    Fetch,
    /// Checksums are verified.
    Verify,
    /// Archives are extracted.
    Extract,
    /// `prepare()`
    Prepare,
    /// `pkgver()`
    Pkgver,
    /// `build()`
    Build,
    /// `check()`
    Check,
    /// `package()`
    Package,
    /// The files of the package are listed.
    List,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Evaluate => "evaluate",
            Self::Fetch => "fetch",
            Self::Verify => "verify",
            Self::Extract => "extract",
            Self::Prepare => "prepare",
            Self::Pkgver => "pkgver",
            Self::Build => "build",
            Self::Check => "check",
            Self::Package => "package",
            Self::List => "list",
        })
    }
}

/// Something that happens during a build. Texts are escaped.
#[derive(Debug, Clone, PartialEq)]
pub enum BuildEvent {
    /// A phase begins.
    Phase(Phase),
    /// What the build does, for display.
    Message(String),
    /// How far a download is.
    Progress {
        /// Name of the source.
        source: String,
        /// Bytes on disk.
        done: u64,
        /// Size in bytes, once known.
        total: Option<u64>,
    },
    /// A line that a step has printed.
    Line(String),
}

/// A package that was built.
#[derive(Debug, Clone, PartialEq)]
pub struct BuiltPackage {
    /// Its name.
    pub name: String,
    /// Its version, as `pkgver()` printed it.
    pub version: Version,
    /// What it is, in one line; escaped.
    pub description: String,
    /// What it needs to run, as the recipe names it; escaped.
    pub depends: Vec<String>,
    /// The directory with its files.
    pub root: PathBuf,
    /// All its files and links, sorted by path.
    pub files: Vec<PackagedFile>,
    /// The log of the build.
    pub log: PathBuf,
    /// Duration of the build.
    pub duration: Duration,
}

/// A file or link of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagedFile {
    /// Path below the root of the package, of printable characters.
    pub path: String,
    /// What it is.
    pub kind: PackagedKind,
}

/// What an entry of a package is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackagedKind {
    /// A file.
    File {
        /// Size in bytes.
        size: u64,
        /// Permissions, without set-user-id and set-group-id.
        mode: u32,
        /// SHA-256 of the content.
        sha256: [u8; 32],
    },
    /// A symbolic link.
    Link {
        /// A relative path to somewhere in the package.
        target: String,
    },
}
