use std::fs;

use daemon_shell::ProcessIdentity;
use diagnostics::Diagnostic;
use hive_contract::EngineDecision;
use input_validation::{DeviceId, Generation, ModelRef, WorkerId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Stored, WorkerDir,
    errors::unusable,
    record::{self, Record},
};

/// State of one spawn of a worker. The hive writes it; a later hive and the keeper read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnRecord {
    /// The worker's id, also the name of its directory.
    pub worker_id: WorkerId,
    /// Generation of this spawn.
    pub generation: Generation,
    /// The model that it serves.
    pub model: ModelRef,
    /// The device that it computes on.
    pub device: DeviceId,
    /// Port that it listens on, on loopback.
    pub port: u16,
    /// Binary and arguments. They contain no secret.
    pub argv: Vec<String>,
    /// The worker's process. `None` from before the process is started until right after.
    pub process: Option<ProcessIdentity>,
    /// Time of the spawn.
    pub started_at: Timestamp,
    /// The engine that runs the model, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineDecision>,
    /// Number of earlier spawns under this id.
    pub restarts: u64,
    /// Reason for which rbee stopped the process, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_cause: Option<String>,
    /// Time at which the process was known to have exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Exit of the last process under this id, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// The worker of which the process computes a part; absent for workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<WorkerId>,
}

impl Record for SpawnRecord {
    const FORMAT: u64 = 2;
}

impl SpawnRecord {
    /// Reads the record of a worker directory. The record of another worker counts as
    /// damaged: acting on it would stop the wrong process.
    pub fn read(dir: &WorkerDir) -> Result<Stored<Self>, Diagnostic> {
        Ok(match record::read::<Self>(&dir.spawn_record())? {
            Stored::Intact(record) if record.worker_id != *dir.id() => {
                Stored::Damaged(format!("it belongs to worker {}", record.worker_id))
            }
            stored => stored,
        })
    }

    /// Writes the record to its worker directory, which is created if missing.
    pub fn write(&self, dir: &WorkerDir) -> Result<(), Diagnostic> {
        fs::create_dir_all(dir.path()).map_err(|e| unusable(dir.path(), &e))?;
        record::write(&dir.spawn_record(), self)
    }

    /// The worker's process, if it is alive.
    pub fn running(&self) -> Option<ProcessIdentity> {
        self.process
            .filter(|process| self.ended_at.is_none() && process.is_alive())
    }

    /// Whether the worker may be running: its process is alive, or it is unknown because the
    /// hive died while it started the worker.
    pub fn may_be_running(&self) -> bool {
        self.ended_at.is_none() && self.process.is_none_or(|process| process.is_alive())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use diagnostics::Code;

    use super::*;
    use crate::WorkerDirs;

    pub fn record() -> SpawnRecord {
        SpawnRecord {
            worker_id: "w-1".parse().unwrap(),
            generation: Generation(3),
            model: "mock:load_ms=1".parse().unwrap(),
            device: DeviceId::Cpu(0),
            port: 8081,
            argv: vec!["/bin/worker".to_owned(), "--port".to_owned()],
            process: Some(ProcessIdentity::own()),
            started_at: Timestamp::UNIX_EPOCH,
            engine: None,
            restarts: 2,
            stop_cause: None,
            ended_at: None,
            last_exit: Some("exit code 1".to_owned()),
            part_of: None,
        }
    }

    #[test]
    fn reads_what_was_written_but_not_for_another_worker() {
        let root = tempfile::tempdir().unwrap();
        let dirs = WorkerDirs::new(root.path().to_owned());
        let (own, other) = (
            dirs.of(&"w-1".parse().unwrap()),
            dirs.of(&"w-2".parse().unwrap()),
        );
        assert_eq!(SpawnRecord::read(&own), Ok(Stored::Missing));
        record().write(&own).unwrap();
        assert_eq!(SpawnRecord::read(&own), Ok(Stored::Intact(record())));
        record().write(&other).unwrap();
        assert_eq!(
            SpawnRecord::read(&other),
            Ok(Stored::Damaged("it belongs to worker w-1".to_owned()))
        );
    }

    #[test]
    fn a_newer_record_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let dir = WorkerDirs::new(root.path().to_owned()).of(&"w-1".parse().unwrap());
        record().write(&dir).unwrap();
        fs::write(dir.spawn_record(), r#"{"format": 3}"#).unwrap();
        let error = SpawnRecord::read(&dir).unwrap_err();
        assert_eq!(error.code, Code::StateTooNew);
        assert_eq!(record().write(&dir).unwrap_err().code, Code::StateTooNew);
    }

    #[test]
    fn only_the_recorded_process_counts_as_running() {
        let mut record = record();
        assert_eq!(record.running(), record.process);
        assert!(record.may_be_running());
        let own = ProcessIdentity::own();
        record.process = Some(ProcessIdentity {
            start_time: own.start_time + 1,
            ..own
        });
        assert_eq!(record.running(), None, "a reused pid is another process");
        assert!(!record.may_be_running());
        record.process = None;
        assert_eq!(record.running(), None);
        assert!(record.may_be_running(), "its process is unknown");
        record.ended_at = Some(Timestamp::UNIX_EPOCH);
        assert!(!record.may_be_running());
    }
}
