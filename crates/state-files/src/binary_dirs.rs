use std::{
    fs, io,
    path::{Path, PathBuf},
};

use daemon_shell::ProcessIdentity;
use diagnostics::Diagnostic;
use input_validation::{BinaryVersion, FeatureName, WorkerType};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ModelFile, Stored,
    errors::unusable,
    record::{self, Record},
};

/// Directory of what is not installed yet. No worker type begins with a dot.
const STAGING: &str = ".staging";

/// `workers`: one directory for each type of worker, with one for each installed version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinaryDirs(PathBuf);

impl BinaryDirs {
    /// The directories below `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// The directory that contains them.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The directory of an installed version, which need not exist.
    pub fn of(&self, worker_type: &WorkerType, installation: &BinaryVersion) -> BinaryDir {
        let dir = self.0.join(worker_type.as_str());
        BinaryDir(dir.join(installation.as_str()))
    }

    /// A directory in which something is built or fetched, which need not exist.
    pub fn staging(&self, name: &str) -> StagingDir {
        StagingDir(self.0.join(STAGING).join(name))
    }

    /// All directories in which something was built or fetched, and whose hive may have died.
    pub fn staged(&self) -> Result<Vec<StagingDir>, Diagnostic> {
        let dirs = subdirectories(&self.0.join(STAGING))?;
        Ok(dirs.into_iter().map(StagingDir).collect())
    }

    /// All directories of installed versions. Those with invalid names are left out.
    pub fn existing(&self) -> Result<Vec<(WorkerType, BinaryVersion, BinaryDir)>, Diagnostic> {
        let mut found = Vec::new();
        for of_type in subdirectories(&self.0)? {
            let Some(Ok(worker_type)) = name(&of_type).map(str::parse::<WorkerType>) else {
                continue;
            };
            for dir in subdirectories(&of_type)? {
                if let Some(Ok(installation)) = name(&dir).map(str::parse) {
                    found.push((worker_type.clone(), installation, BinaryDir(dir)));
                }
            }
        }
        Ok(found)
    }
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// The directories in `dir`, which need not exist, sorted by name.
fn subdirectories(dir: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(unusable(dir, &e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| unusable(dir, &e))?;
        // A link is not followed.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Directory of an installed version: its files and its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinaryDir(PathBuf);

impl BinaryDir {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Directory of the files.
    pub fn files(&self) -> PathBuf {
        self.0.join("files")
    }

    /// File with the entry of the catalog that the version is from. Others than packages of a
    /// catalog have none.
    pub fn package(&self) -> PathBuf {
        self.0.join("catalog.json")
    }

    /// File of the [`BinaryRecord`].
    pub fn record(&self) -> PathBuf {
        self.0.join("binary.json")
    }
}

/// Directory in which something is built or fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagingDir(PathBuf);

impl StagingDir {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What becomes the directory of an installed version.
    pub fn installation(&self) -> BinaryDir {
        BinaryDir(self.0.join("installation"))
    }

    /// Directory for what is needed to make it.
    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// File of the [`BuildRecord`].
    pub fn record(&self) -> PathBuf {
        self.0.join("build.json")
    }
}

/// An installed version of a worker binary. The catalog is rebuilt from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BinaryRecord {
    /// Type of the worker.
    pub worker_type: WorkerType,
    /// Version that the binary prints.
    pub version: BinaryVersion,
    /// Features that it was built with.
    pub features: Vec<FeatureName>,
    /// The program that is started, below [`BinaryDir::files`].
    pub entry: String,
    /// All files, by their paths below [`BinaryDir::files`].
    pub files: Vec<ModelFile>,
    /// Kind of the source: `git`.
    pub source: String,
    /// Where it is from: a repository with the commit, or a URL.
    pub origin: String,
    /// Time that the build took, in seconds; 0 if it was not built here.
    pub build_seconds: f64,
    /// Time at which it was installed.
    pub installed_at: Timestamp,
}

impl Record for BinaryRecord {
    const FORMAT: u64 = 2;
}

impl BinaryRecord {
    /// Reads the record of a directory.
    pub fn read(dir: &BinaryDir) -> Result<Stored<Self>, Diagnostic> {
        record::read(&dir.record())
    }

    /// Writes the record of a directory, which must exist.
    pub fn write(&self, dir: &BinaryDir) -> Result<(), Diagnostic> {
        record::write(&dir.record(), self)
    }

    /// The file that is started.
    pub fn program(&self) -> Option<&ModelFile> {
        self.files.iter().find(|file| file.path == self.entry)
    }
}

/// The process that works in a staging directory. A later hive ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRecord {
    /// Leader of the process group.
    pub process: ProcessIdentity,
}

impl Record for BuildRecord {
    const FORMAT: u64 = 2;
}

impl BuildRecord {
    /// Reads the record of a directory.
    pub fn read(dir: &StagingDir) -> Result<Stored<Self>, Diagnostic> {
        record::read(&dir.record())
    }

    /// Writes the record of a directory, which must exist.
    pub fn write(&self, dir: &StagingDir) -> Result<(), Diagnostic> {
        record::write(&dir.record(), self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// If a number is parsed with an error of one bit, the checksum is wrong.
        #[test]
        fn a_record_with_any_duration_is_read_as_it_was_written(build_seconds in 0.0..1e5_f64) {
            let temporary = tempfile::tempdir().unwrap();
            let dir = BinaryDir(temporary.path().to_owned());
            let record = BinaryRecord {
                worker_type: "a".parse().unwrap(),
                version: "0.1.0".parse().unwrap(),
                features: Vec::new(),
                entry: "a".into(),
                files: Vec::new(),
                source: "git".into(),
                origin: "r c".into(),
                build_seconds,
                installed_at: Timestamp::UNIX_EPOCH,
            };
            record.write(&dir).unwrap();
            prop_assert_eq!(BinaryRecord::read(&dir), Ok(Stored::Intact(record)));
        }
    }

    #[test]
    fn staged_directories_are_not_installed_ones() {
        let temporary = tempfile::tempdir().unwrap();
        let dirs = BinaryDirs::new(temporary.path().to_owned());
        assert_eq!(dirs.existing(), Ok(Vec::new()));
        let (worker_type, version) = ("a".parse().unwrap(), "0.1.0-1".parse().unwrap());
        let dir = dirs.of(&worker_type, &version);
        let staging = dirs.staging("x");
        for path in [dir.path(), staging.path(), &temporary.path().join("A B/1")] {
            fs::create_dir_all(path).unwrap();
        }
        std::os::unix::fs::symlink("/", temporary.path().join("a/link")).unwrap();
        assert_eq!(dirs.existing(), Ok(vec![(worker_type, version, dir)]));
        assert_eq!(dirs.staged(), Ok(vec![staging]));
    }
}
