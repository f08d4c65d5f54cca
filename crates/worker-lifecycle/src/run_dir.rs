use std::{
    fs, io,
    path::Path,
    sync::{Mutex, PoisonError},
};

use daemon_shell::TEMPORARY_PREFIX;
use diagnostics::Diagnostic;
use hive_jobs::Reporter;
use input_validation::WorkerId;
use jiff::Timestamp;
use state_files::{SpawnRecord, Stored, WorkerDir, WorkerDirs};

use crate::{errors::unusable, log_file::LogFile, process_table::find_by_argv, record::mark_ended};

/// Number of exited workers that are kept for their logs.
const EXITED_KEPT: usize = 64;

/// The spawn records and logs of all workers. Calls block on the disk.
pub(crate) struct RunDir {
    dirs: WorkerDirs,
    node_events: Reporter,
    // Serializes read-modify-write of the records within this process. The hive's lock on its
    // home excludes other processes.
    writing: Mutex<()>,
}

impl RunDir {
    /// Opens the directory and removes what interrupted writes left. Damaged records are
    /// reported to `node_events`.
    pub fn open(dirs: WorkerDirs, node_events: Reporter) -> Result<Self, Diagnostic> {
        let root = dirs.path();
        fs::create_dir_all(root).map_err(|e| unusable(root, &e))?;
        let this = Self {
            dirs,
            node_events,
            writing: Mutex::new(()),
        };
        for id in this.dirs.ids()? {
            let dir = this.dir(&id);
            remove_temporary_files(dir.path()).map_err(|e| unusable(dir.path(), &e))?;
            // A hive died before it started the process, or the process left no trace.
            if let Some(record) = this.read(&id)?
                && record.process.is_none()
                && record.ended_at.is_none()
            {
                this.update(&record, |r| mark_ended(r, Timestamp::now(), None))?;
            }
        }
        Ok(this)
    }

    pub fn dir(&self, id: &WorkerId) -> WorkerDir {
        self.dirs.of(id)
    }

    pub fn log(&self, id: &WorkerId) -> LogFile {
        LogFile::new(self.dir(id))
    }

    /// The intact records of all workers by id, each as [`read`](Self::read) returns it.
    pub fn all(&self) -> Result<Vec<SpawnRecord>, Diagnostic> {
        let mut records = Vec::new();
        for id in self.dirs.ids()? {
            records.extend(self.read(&id)?);
        }
        Ok(records)
    }

    /// The record of one worker, brought up to date with the process table: a process that is
    /// gone is marked as exited, a process that was started right before a hive died is found
    /// again. A damaged record is set aside and reported.
    pub fn read(&self, id: &WorkerId) -> Result<Option<SpawnRecord>, Diagnostic> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut record) = self.load(id)? else {
            return Ok(None);
        };
        if record.ended_at.is_none() && record.running().is_none() {
            match (record.process, find_by_argv(&record.argv)) {
                (None, Some(process)) => record.process = Some(process),
                // Between writing the record and starting the process there is no process.
                (None, None) => return Ok(Some(record)),
                (Some(_), _) => mark_ended(&mut record, Timestamp::now(), None),
            }
            self.store(&record)?;
        }
        Ok(Some(record))
    }

    /// Writes a record. Creates the worker's directory if it is missing.
    pub fn write(&self, record: &SpawnRecord) -> Result<(), Diagnostic> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.store(record)
    }

    /// Changes the record of exactly this spawn and returns it. Returns `None` and changes
    /// nothing if another spawn has replaced it.
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

    /// Removes the directories of exited workers, except for the 64 that exited last.
    pub fn prune(&self) -> Result<(), Diagnostic> {
        let mut exited: Vec<SpawnRecord> = self.all()?;
        exited.retain(|record| record.ended_at.is_some());
        exited.sort_by_key(|record| std::cmp::Reverse(record.ended_at));
        for record in exited.iter().skip(EXITED_KEPT) {
            let dir = self.dir(&record.worker_id);
            fs::remove_dir_all(dir.path()).map_err(|e| unusable(dir.path(), &e))?;
        }
        Ok(())
    }

    fn load(&self, id: &WorkerId) -> Result<Option<SpawnRecord>, Diagnostic> {
        let dir = self.dir(id);
        let reason = match SpawnRecord::read(&dir)? {
            Stored::Intact(record) => return Ok(Some(record)),
            Stored::Missing => return Ok(None),
            Stored::Damaged(reason) => reason,
        };
        let (path, aside) = (dir.spawn_record(), dir.damaged_spawn_record());
        fs::rename(&path, &aside).map_err(|e| unusable(&path, &e))?;
        self.node_events.warn(
            "set_aside",
            format!(
                "the spawn record of worker {id} is damaged ({reason}) and was set aside as {}; if its process is still running, this hive no longer manages it",
                aside.display()
            ),
        );
        Ok(None)
    }

    fn store(&self, record: &SpawnRecord) -> Result<(), Diagnostic> {
        record.write(&self.dir(&record.worker_id))
    }
}

fn remove_temporary_files(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(TEMPORARY_PREFIX)
        {
            // A file that cannot be removed does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use daemon_shell::ProcessIdentity;
    use diagnostics::Code;
    use hive_contract::{JobEvent, WorkerState};

    use super::*;
    use crate::record::{tests::record, worker_entry};

    struct Fixture {
        dirs: WorkerDirs,
        runs: RunDir,
        events: Arc<Mutex<Vec<JobEvent>>>,
        _root: tempfile::TempDir,
    }

    fn fixture() -> Fixture {
        let root = tempfile::tempdir().unwrap();
        let dirs = WorkerDirs::new(root.path().join("workers"));
        let events: Arc<Mutex<Vec<JobEvent>>> = Arc::default();
        let sink = Arc::clone(&events);
        let report = Reporter::new(move |event| sink.lock().unwrap().push(event));
        let runs = RunDir::open(dirs.clone(), report).unwrap();
        Fixture {
            dirs,
            runs,
            events,
            _root: root,
        }
    }

    impl Fixture {
        /// The directory as a hive that starts later opens it.
        fn reopened(&self) -> Result<RunDir, Diagnostic> {
            RunDir::open(self.dirs.clone(), Reporter::discard())
        }
    }

    fn ids(records: &[SpawnRecord]) -> Vec<&str> {
        records.iter().map(|r| r.worker_id.as_str()).collect()
    }

    #[test]
    fn a_later_hive_reads_what_was_written() {
        let f = fixture();
        assert_eq!(f.runs.all().unwrap(), []);
        for id in ["w-2", "w-1"] {
            f.runs.write(&record(id)).unwrap();
        }
        let later = f.reopened().unwrap().all().unwrap();
        assert_eq!(ids(&later), ["w-1", "w-2"]);
    }

    #[test]
    fn damaged_records_are_set_aside_and_reported() {
        let f = fixture();
        let good = record("w-1");
        f.runs.write(&good).unwrap();
        let dir = f.runs.dir(&good.worker_id);
        let bytes = fs::read(dir.spawn_record()).unwrap();
        for length in 0..bytes.len() {
            fs::write(dir.spawn_record(), &bytes[..length]).unwrap();
            assert_eq!(f.runs.all().unwrap(), [], "cut to {length} bytes");
            assert!(!dir.spawn_record().exists());
            assert_eq!(
                fs::read(dir.damaged_spawn_record()).unwrap(),
                &bytes[..length]
            );
        }
        assert_eq!(f.events.lock().unwrap().len(), bytes.len());
        // Acting on the record of another worker would stop the wrong process.
        let other = f.runs.dir(&"w-2".parse().unwrap());
        fs::create_dir_all(other.path()).unwrap();
        fs::write(other.spawn_record(), &bytes).unwrap();
        assert_eq!(f.runs.all().unwrap(), []);
        assert!(
            format!("{:?}", f.events.lock().unwrap().last()).contains("it belongs to worker w-1")
        );
    }

    #[test]
    fn a_record_of_a_newer_rbee_is_an_error_and_stays_as_it_is() {
        let f = fixture();
        let newer = record("w-1");
        f.runs.write(&newer).unwrap();
        let path = f.runs.dir(&newer.worker_id).spawn_record();
        let text = r#"{"format": 99}"#;
        fs::write(&path, text).unwrap();
        for error in [
            f.runs.all().map(drop),
            f.runs.write(&newer),
            f.runs.update(&newer, |_| {}).map(drop),
            f.reopened().map(drop),
        ] {
            assert_eq!(error.unwrap_err().code, Code::StateTooNew);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert!(f.events.lock().unwrap().is_empty());
    }

    #[test]
    fn other_files_and_leftovers_are_ignored() {
        let f = fixture();
        f.runs.write(&record("w-1")).unwrap();
        let root = f.dirs.path();
        fs::write(root.join("notes"), "x").unwrap();
        fs::create_dir(root.join("not a worker")).unwrap();
        fs::create_dir(root.join("empty")).unwrap();
        let leftover = root.join("w-1").join(format!("{TEMPORARY_PREFIX}abc"));
        fs::write(&leftover, "half").unwrap();
        let later = f.reopened().unwrap();
        assert!(!leftover.exists());
        assert_eq!(ids(&later.all().unwrap()), ["w-1"]);
    }

    #[test]
    fn update_changes_only_the_same_spawn() {
        let f = fixture();
        let old = record("w-1");
        let mut new = old.clone();
        new.generation.0 += 1;
        f.runs.write(&new).unwrap();
        let end = |r: &mut SpawnRecord| mark_ended(r, Timestamp::now(), None);
        assert_eq!(f.runs.update(&old, end).unwrap(), None);
        assert_eq!(f.runs.all().unwrap(), [new.clone()]);
        let ended = f.runs.update(&new, end).unwrap().unwrap();
        assert!(ended.ended_at.is_some());
    }

    #[test]
    fn a_process_started_right_before_the_hive_died_is_found_again() {
        let f = fixture();
        let seconds = format!("{}", 6_000_000 + std::process::id());
        let mut child = std::process::Command::new("sleep")
            .arg(&seconds)
            .spawn()
            .unwrap();
        // The kernel shows the arguments a moment after it has started the program.
        let arguments = format!("/proc/{}/cmdline", child.id());
        while !std::fs::read(&arguments).unwrap().starts_with(b"sleep\0") {
            std::thread::yield_now();
        }
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
        let entry = worker_entry(&gone, Timestamp::now());
        assert_eq!(entry.state, WorkerState::Exited);
    }

    #[test]
    fn only_the_last_exited_workers_are_kept() {
        let f = fixture();
        f.runs.write(&record("alive")).unwrap();
        for n in 0..EXITED_KEPT + 3 {
            let mut exited = record(&format!("w-{n}"));
            exited.process = None;
            exited.ended_at = Some(Timestamp::from_second(n as i64).unwrap());
            f.runs.write(&exited).unwrap();
        }
        f.runs.prune().unwrap();
        let left = f.runs.all().unwrap();
        let left = ids(&left);
        assert_eq!(left.len(), EXITED_KEPT + 1);
        assert!(left.contains(&"alive"));
        assert!(!left.contains(&"w-2") && left.contains(&"w-3"));
    }
}
