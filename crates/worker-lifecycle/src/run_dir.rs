use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use daemon_shell::write_atomically;
use diagnostics::{Code, Diagnostic, Narration, escape};
use hive_contract::JobEvent;
use input_validation::WorkerId;
use jiff::Timestamp;

use crate::{SpawnRecord, log_file::LogFile, process_table::find_by_argv, workers::Report};

/// Ended workers that are kept for their logs; older ones are removed.
const ENDED_KEPT: usize = 64;

/// `run/workers`: one folder for each worker with `spawn.json` and its log. Calls block on
/// the disk.
pub struct RunDir {
    dir: PathBuf,
    tell: Report,
    // Serialises read-modify-write of the records within this process; the hive's lock on
    // its home keeps other processes away.
    writing: Mutex<()>,
}

impl RunDir {
    /// Opens the directory and removes what an interrupted write may have left. `tell`
    /// hears of records that cannot be read.
    pub fn open(dir: PathBuf, tell: Report) -> Result<Self, Diagnostic> {
        fs::create_dir_all(&dir).map_err(|e| unusable(&dir, &e))?;
        let this = Self {
            dir,
            tell,
            writing: Mutex::new(()),
        };
        for id in this.ids()? {
            let folder = this.folder(&id);
            for entry in fs::read_dir(&folder).map_err(|e| unusable(&folder, &e))? {
                let entry = entry.map_err(|e| unusable(&folder, &e))?;
                if entry.file_name().to_string_lossy().starts_with(".new-") {
                    // What cannot be removed does no harm.
                    let _ = fs::remove_file(entry.path());
                }
            }
            // A hive died before it started the process, or the process is gone untraced.
            if let Some(record) = this.read(&id)?
                && record.process.is_none()
                && record.ended_at.is_none()
            {
                this.update(&record, |r| r.end(Timestamp::now(), None))?;
            }
        }
        Ok(this)
    }

    /// A worker's folder.
    pub fn folder(&self, id: &WorkerId) -> PathBuf {
        self.dir.join(id.as_str())
    }

    /// A worker's log.
    pub(crate) fn log(&self, id: &WorkerId) -> LogFile {
        LogFile::new(self.folder(id))
    }

    /// Every worker that has a readable record, by name, as the process table shows it.
    pub fn all(&self) -> Result<Vec<SpawnRecord>, Diagnostic> {
        let mut records = Vec::new();
        for id in self.ids()? {
            records.extend(self.read(&id)?);
        }
        Ok(records)
    }

    /// The record of one worker, with its process looked up: one that is gone is noted as
    /// ended, one that was started just before a hive died is found again. A record that
    /// cannot be understood is set aside and told.
    pub fn read(&self, id: &WorkerId) -> Result<Option<SpawnRecord>, Diagnostic> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut record) = self.load(id)? else {
            return Ok(None);
        };
        if record.ended_at.is_none() && record.running().is_none() {
            match (record.process, find_by_argv(&record.argv)) {
                (None, Some(process)) => record.process = Some(process),
                // Between writing the record and starting the process there is nothing to
                // note; only a process that was seen can be gone.
                (None, None) => return Ok(Some(record)),
                (Some(_), _) => record.end(Timestamp::now(), None),
            }
            self.store(&record)?;
        }
        Ok(Some(record))
    }

    /// Writes a record, in a folder made if missing.
    pub fn write(&self, record: &SpawnRecord) -> Result<(), Diagnostic> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.store(record)
    }

    /// Changes the record of exactly this spawn; one that was replaced meanwhile is left
    /// alone. Returns the record as it is now.
    pub fn update(
        &self,
        spawn: &SpawnRecord,
        change: impl FnOnce(&mut SpawnRecord),
    ) -> Result<Option<SpawnRecord>, Diagnostic> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut record) = self.load(&spawn.worker_id)? else {
            return Ok(None);
        };
        if record.started_at != spawn.started_at || record.generation != spawn.generation {
            return Ok(None);
        }
        change(&mut record);
        self.store(&record)?;
        Ok(Some(record))
    }

    /// Removes the folders of the workers that ended first, beyond the 64 last.
    pub fn prune(&self) -> Result<(), Diagnostic> {
        let mut ended: Vec<SpawnRecord> = self.all()?;
        ended.retain(|record| record.ended_at.is_some());
        ended.sort_by_key(|record| std::cmp::Reverse(record.ended_at));
        for record in ended.iter().skip(ENDED_KEPT) {
            let folder = self.folder(&record.worker_id);
            fs::remove_dir_all(&folder).map_err(|e| unusable(&folder, &e))?;
        }
        Ok(())
    }

    fn ids(&self) -> Result<Vec<WorkerId>, Diagnostic> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(|e| unusable(&self.dir, &e))? {
            let entry = entry.map_err(|e| unusable(&self.dir, &e))?;
            let name = entry.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.parse().ok())
                && entry.path().is_dir()
            {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }

    fn load(&self, id: &WorkerId) -> Result<Option<SpawnRecord>, Diagnostic> {
        let path = self.folder(id).join("spawn.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(unusable(&path, &e)),
        };
        let problem = match serde_json::from_slice::<SpawnRecord>(&bytes) {
            Ok(record) if record.worker_id == *id => return Ok(Some(record)),
            Ok(record) => format!("it is about {}", record.worker_id),
            Err(e) => escape(&e.to_string()),
        };
        let aside = path.with_file_name("spawn.json.corrupt");
        fs::rename(&path, &aside).map_err(|e| unusable(&path, &e))?;
        (self.tell)(JobEvent::Narration(Narration::warn(
            "hive",
            "set_aside",
            format!(
                "the record of worker {id} cannot be understood ({problem}); it was set aside as {}. If its process lives, it is not known to this hive any more",
                aside.display()
            ),
        )));
        Ok(None)
    }

    fn store(&self, record: &SpawnRecord) -> Result<(), Diagnostic> {
        let folder = self.folder(&record.worker_id);
        fs::create_dir_all(&folder).map_err(|e| unusable(&folder, &e))?;
        let json = serde_json::to_vec_pretty(record)
            .map_err(|e| Diagnostic::internal(format!("spawn record: {e}")))?;
        write_atomically(&folder.join("spawn.json"), &json)
    }
}

pub(crate) fn unusable(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::new(
        Code::StateUnusable,
        format!("cannot use {}: {error}", path.display()),
    )
    .hint("check its owner and permissions and the room on its disk")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;
    use daemon_shell::ProcessIdentity;
    use hive_contract::WorkerState;
    use std::sync::Arc;

    struct Fixture {
        root: tempfile::TempDir,
        runs: RunDir,
        told: Arc<Mutex<Vec<JobEvent>>>,
    }

    fn fixture() -> Fixture {
        let root = tempfile::tempdir().unwrap();
        let told: Arc<Mutex<Vec<JobEvent>>> = Arc::default();
        let sink = Arc::clone(&told);
        let tell: Report = Arc::new(move |event| sink.lock().unwrap().push(event));
        let runs = RunDir::open(root.path().join("workers"), tell).unwrap();
        Fixture { root, runs, told }
    }

    #[test]
    fn what_was_written_is_read_by_a_later_hive() {
        let f = fixture();
        assert_eq!(f.runs.all().unwrap(), []);
        for id in ["w-2", "w-1"] {
            f.runs.write(&record(id)).unwrap();
        }
        let later = RunDir::open(f.root.path().join("workers"), Arc::new(|_| {})).unwrap();
        let names: Vec<String> = later
            .all()
            .unwrap()
            .iter()
            .map(|r| r.worker_id.to_string())
            .collect();
        assert_eq!(names, ["w-1", "w-2"]);
    }

    #[test]
    fn records_damaged_in_any_way_are_set_aside_and_told() {
        let f = fixture();
        let good = record("w-1");
        f.runs.write(&good).unwrap();
        let path = f.runs.folder(&good.worker_id).join("spawn.json");
        let bytes = fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            assert_eq!(f.runs.all().unwrap(), [], "cut at {cut}");
            assert!(path.with_file_name("spawn.json.corrupt").exists());
        }
        assert_eq!(f.told.lock().unwrap().len(), bytes.len());
        // A record under another worker's name would stop the wrong process.
        let other = f.runs.folder(&"w-2".parse().unwrap());
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("spawn.json"), &bytes).unwrap();
        assert_eq!(f.runs.all().unwrap(), []);
        assert!(format!("{:?}", f.told.lock().unwrap().last()).contains("it is about w-1"));
    }

    #[test]
    fn foreign_files_and_leftovers_do_not_matter() {
        let f = fixture();
        f.runs.write(&record("w-1")).unwrap();
        let dir = f.root.path().join("workers");
        fs::write(dir.join("notes"), "x").unwrap();
        fs::create_dir(dir.join("not a worker")).unwrap();
        fs::create_dir(dir.join("empty")).unwrap();
        let leftover = dir.join("w-1/.new-abc");
        fs::write(&leftover, "half").unwrap();
        let later = RunDir::open(dir, Arc::new(|_| {})).unwrap();
        assert!(!leftover.exists());
        assert_eq!(later.all().unwrap().len(), 1);
    }

    #[test]
    fn only_the_same_spawn_is_changed() {
        let f = fixture();
        let old = record("w-1");
        let mut new = old.clone();
        new.generation.0 += 1;
        f.runs.write(&new).unwrap();
        let end = |r: &mut SpawnRecord| r.end(Timestamp::now(), None);
        assert_eq!(f.runs.update(&old, end).unwrap(), None);
        assert_eq!(f.runs.all().unwrap(), [new.clone()]);
        assert!(
            f.runs
                .update(&new, end)
                .unwrap()
                .unwrap()
                .ended_at
                .is_some()
        );
    }

    #[test]
    fn a_process_started_just_before_the_hive_died_is_found_again() {
        let f = fixture();
        let seconds = format!("{}", 6_000_000 + std::process::id());
        let mut child = std::process::Command::new("sleep")
            .arg(&seconds)
            .spawn()
            .unwrap();
        let mut lost = record("w-1");
        lost.process = None;
        lost.argv = vec!["sleep".to_owned(), seconds];
        f.runs.write(&lost).unwrap();
        let found = f.runs.read(&lost.worker_id).unwrap().unwrap();
        let identity = ProcessIdentity::of(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.process, Some(identity));
        let gone = f.runs.read(&lost.worker_id).unwrap().unwrap();
        assert!(gone.ended_at.is_some());
        assert_eq!(gone.entry(Timestamp::now()).state, WorkerState::Exited);
    }

    #[test]
    fn ended_workers_are_kept_in_number() {
        let f = fixture();
        f.runs.write(&record("alive")).unwrap();
        for n in 0..ENDED_KEPT + 3 {
            let mut ended = record(&format!("w-{n}"));
            ended.process = None;
            ended.ended_at = Some(Timestamp::from_second(n as i64).unwrap());
            f.runs.write(&ended).unwrap();
        }
        f.runs.prune().unwrap();
        let left: Vec<String> = f
            .runs
            .all()
            .unwrap()
            .iter()
            .map(|r| r.worker_id.to_string())
            .collect();
        assert_eq!(left.len(), ENDED_KEPT + 1);
        assert!(left.contains(&"alive".to_owned()));
        assert!(!left.contains(&"w-2".to_owned()) && left.contains(&"w-3".to_owned()));
    }
}
