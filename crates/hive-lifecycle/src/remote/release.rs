use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::PathBuf,
};

use diagnostics::Diagnostic;
use sha2::{Digest as _, Sha256};

use super::glibc;
use crate::errors;

/// The programs of this release that nodes need.
#[derive(Debug, Clone)]
pub struct Release {
    directory: PathBuf,
}

/// A program of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) digest: String,
}

/// Name of the worker that runs other engines.
const ADAPTER: &str = "adapter-worker-rbee";

impl Release {
    /// Name of the hive's program.
    pub(super) const HIVE: &str = "rbee-hive";
    /// Version of all programs.
    pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

    /// The release whose programs are in this directory.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Returns the programs: the hive, and the workers that there are. Blocks.
    pub(super) fn programs(&self) -> Result<Vec<Program>, Diagnostic> {
        let programs = self.names()?.into_iter().map(|name| self.program(name));
        let unreadable = |e| errors::no_release(&self.directory, &e);
        programs.collect::<io::Result<_>>().map_err(unreadable)
    }

    /// Returns the oldest version of the GNU C library with which all programs run. `None` if they
    /// do not need it. Blocks.
    pub(super) fn needed_glibc(&self) -> Result<Option<glibc::Version>, Diagnostic> {
        let names = self.names()?;
        let versions = names.iter().map(|name| self.directory.join(name));
        Ok(versions.filter_map(|path| glibc::needed_by(&path)).max())
    }

    /// Names of the programs.
    fn names(&self) -> Result<Vec<String>, Diagnostic> {
        let unreadable = |e| errors::no_release(&self.directory, &e);
        let mut names = vec![Self::HIVE.to_owned()];
        for entry in fs::read_dir(&self.directory).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            names.extend(name.into_string().ok().filter(|name| is_worker(name)));
        }
        names[1..].sort();
        Ok(names)
    }

    fn program(&self, name: String) -> io::Result<Program> {
        let path = self.directory.join(&name);
        let mut file = File::open(&path)?;
        let (mut digest, mut bytes) = (Sha256::new(), 0);
        let mut chunk = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            digest.update(&chunk[..count]);
            bytes += count as u64;
        }
        Ok(Program {
            name,
            path,
            bytes,
            digest: hex::encode(digest.finalize()),
        })
    }
}

fn is_worker(name: &str) -> bool {
    if name == ADAPTER {
        return true;
    }
    let kind = name
        .strip_prefix("llm-")
        .and_then(|n| n.strip_suffix("-worker-rbee"));
    kind.is_some_and(|kind| !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Name of the directory of an installed version: it differs for every build.
pub(super) fn directory_name(programs: &[Program]) -> String {
    let mut digest = Sha256::new();
    for program in programs {
        digest.update(&program.name);
        digest.update(&program.digest);
    }
    let build = hex::encode(digest.finalize());
    format!("{}-{}", Release::VERSION, &build[..8])
}

/// Whether this release can run on a machine as `uname` describes it.
pub(super) fn is_own_platform(os: Option<&str>, arch: Option<&str>) -> bool {
    let own_os = match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Darwin",
        other => other,
    };
    let own_arch = match (own_os, std::env::consts::ARCH) {
        ("Darwin", "aarch64") => "arm64",
        (_, arch) => arch,
    };
    os == Some(own_os) && arch == Some(own_arch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_the_hive_and_its_workers() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "rbee-hive",
            "llm-cpu-worker-rbee",
            "adapter-worker-rbee",
            "queen-rbee",
            "llm-cpu-worker-rbee.d",
        ] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let release = Release::new(dir.path().to_owned());
        let programs = release.programs().unwrap();
        let names: Vec<&str> = programs.iter().map(|p| p.name.as_str()).collect();
        let expected = ["rbee-hive", "adapter-worker-rbee", "llm-cpu-worker-rbee"];
        assert_eq!(names, expected);
        let first = directory_name(&programs);
        fs::write(dir.path().join("rbee-hive"), "another build").unwrap();
        assert_ne!(directory_name(&release.programs().unwrap()), first);
        fs::remove_file(dir.path().join("rbee-hive")).unwrap();
        assert!(release.programs().is_err());
    }

    #[test]
    fn other_platforms_are_recognized() {
        assert!(is_own_platform(Some("Linux"), Some(std::env::consts::ARCH)));
        assert!(!is_own_platform(Some("Linux"), Some("riscv64")));
        assert!(!is_own_platform(
            Some("FreeBSD"),
            Some(std::env::consts::ARCH)
        ));
        assert!(!is_own_platform(None, None));
    }
}
