use std::{
    fs,
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;
use input_validation::WorkerId;

use crate::errors::unusable;

/// `run/workers`: one directory per worker, named after its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerDirs(PathBuf);

impl WorkerDirs {
    /// The worker directories below `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// The directory that contains the worker directories.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The directory of one worker, which need not exist.
    pub fn of(&self, id: &WorkerId) -> WorkerDir {
        WorkerDir {
            path: self.0.join(id.as_str()),
            id: id.clone(),
        }
    }

    /// Ids of the workers that have a directory, sorted. Other files are ignored.
    pub fn ids(&self) -> Result<Vec<WorkerId>, Diagnostic> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(|e| unusable(&self.0, &e))? {
            let entry = entry.map_err(|e| unusable(&self.0, &e))?;
            if let Some(id) = entry.file_name().to_str().and_then(|n| n.parse().ok())
                && entry.path().is_dir()
            {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }
}

/// Directory of one worker: its spawn record and its logs. It is also the working directory
/// of the worker process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerDir {
    path: PathBuf,
    id: WorkerId,
}

impl WorkerDir {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The worker that the directory belongs to.
    pub fn id(&self) -> &WorkerId {
        &self.id
    }

    /// File of the [`SpawnRecord`](crate::SpawnRecord).
    pub fn spawn_record(&self) -> PathBuf {
        self.path.join("spawn.json")
    }

    /// Name under which the hive keeps a damaged spawn record.
    pub fn damaged_spawn_record(&self) -> PathBuf {
        self.path.join("spawn.json.corrupt")
    }

    /// Standard output and standard error of the current process.
    pub fn log(&self) -> PathBuf {
        self.path.join("worker.log")
    }

    /// Log of the previous process.
    pub fn previous_log(&self) -> PathBuf {
        self.path.join("worker.log.1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_directories_with_valid_ids_only() {
        let root = tempfile::tempdir().unwrap();
        for name in ["w-2", "w-1", "not a worker"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        fs::write(root.path().join("w-3"), "a file").unwrap();
        let dirs = WorkerDirs::new(root.path().to_owned());
        let ids: Vec<String> = dirs
            .ids()
            .unwrap()
            .iter()
            .map(WorkerId::to_string)
            .collect();
        assert_eq!(ids, ["w-1", "w-2"]);
    }

    #[test]
    fn files_stay_where_earlier_releases_put_them() {
        let dirs = WorkerDirs::new("/h/run/workers".into());
        let dir = dirs.of(&"w-1".parse().unwrap());
        for (path, expected) in [
            (dir.path().to_owned(), "/h/run/workers/w-1"),
            (dir.spawn_record(), "/h/run/workers/w-1/spawn.json"),
            (
                dir.damaged_spawn_record(),
                "/h/run/workers/w-1/spawn.json.corrupt",
            ),
            (dir.log(), "/h/run/workers/w-1/worker.log"),
            (dir.previous_log(), "/h/run/workers/w-1/worker.log.1"),
        ] {
            assert_eq!(path, Path::new(expected));
        }
    }
}
