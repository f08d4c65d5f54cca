use daemon_shell::ProcessIdentity;
use hive_contract::{WorkerEntry, WorkerState};
use input_validation::{DeviceId, Generation, ModelRef, WorkerId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Exit;

/// What `spawn.json` says: everything that is known of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnRecord {
    /// The worker's name; also the name of its folder.
    pub worker_id: WorkerId,
    /// Which spawn of this name it is.
    pub generation: Generation,
    /// What it serves.
    pub model: ModelRef,
    /// Where it computes.
    pub device: DeviceId,
    /// Where it listens, on loopback.
    pub port: u16,
    /// Program and arguments. No secret is among them.
    pub argv: Vec<String>,
    /// Its process; absent from before the start until right after it.
    pub process: Option<ProcessIdentity>,
    /// When it was spawned.
    pub started_at: Timestamp,
    /// How often this name was spawned before.
    pub restarts: u64,
    /// Why it was told to end, once it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_cause: Option<String>,
    /// When it was known to be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How the last process of this name ended, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
}

impl SpawnRecord {
    /// Its process, when it lives.
    pub fn running(&self) -> Option<ProcessIdentity> {
        let alive = self.ended_at.is_none();
        self.process.filter(|p| alive && p.is_alive())
    }

    /// Notes that the process is gone. `exit` is `None` when nobody could see how.
    pub fn end(&mut self, now: Timestamp, exit: Option<Exit>) {
        self.ended_at = Some(now);
        self.last_exit = match (exit, &self.stop_cause) {
            (Some(exit), Some(cause)) => Some(format!("{exit} ({cause})")),
            (Some(exit), None) => Some(exit.to_string()),
            (None, cause) => cause.clone(),
        };
    }

    /// The record as the hive's answer, checked against the process table.
    pub fn entry(&self, now: Timestamp) -> WorkerEntry {
        let running = self.running();
        let uptime = now.duration_since(self.started_at).as_secs();
        WorkerEntry {
            worker_id: self.worker_id.clone(),
            generation: self.generation,
            model: self.model.clone(),
            device: self.device,
            port: self.port,
            pid: self.process.map_or(0, |p| p.pid),
            state: match running {
                Some(_) => WorkerState::Running,
                None => WorkerState::Exited,
            },
            started_at: self.started_at,
            uptime_seconds: running.map_or(0, |_| u64::try_from(uptime).unwrap_or(0)),
            rss_bytes: running.and_then(|p| p.rss_bytes()).unwrap_or(0),
            vram_bytes: None,
            restarts: self.restarts,
            last_exit: self.last_exit.clone(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn record(id: &str) -> SpawnRecord {
        SpawnRecord {
            worker_id: id.parse().unwrap(),
            generation: Generation(3),
            model: "mock:load_ms=1".parse().unwrap(),
            device: DeviceId::Cpu(0),
            port: 8081,
            argv: vec!["/bin/worker".to_owned(), "--port".to_owned()],
            process: Some(ProcessIdentity::own()),
            started_at: Timestamp::now(),
            restarts: 2,
            stop_cause: None,
            ended_at: None,
            last_exit: Some("exit code 1".to_owned()),
        }
    }

    #[test]
    fn a_living_process_is_told_with_its_memory() {
        let record = record("w-1");
        let later = record.started_at + jiff::SignedDuration::from_secs(90);
        let entry = record.entry(later);
        assert_eq!(entry.state, WorkerState::Running);
        assert_eq!(entry.uptime_seconds, 90);
        assert!(entry.rss_bytes > 0);
        assert_eq!(entry.last_exit.as_deref(), Some("exit code 1"));
    }

    #[test]
    fn a_reused_pid_is_not_this_worker() {
        let mut record = record("w-1");
        let own = ProcessIdentity::own();
        record.process = Some(ProcessIdentity {
            start_time: own.start_time + 1,
            ..own
        });
        let entry = record.entry(Timestamp::now());
        assert_eq!(entry.state, WorkerState::Exited);
        assert_eq!((entry.uptime_seconds, entry.rss_bytes), (0, 0));
    }

    #[test]
    fn how_it_ended_names_who_asked_for_it() {
        let mut record = record("w-1");
        record.stop_cause = Some("stopped on request".to_owned());
        record.end(Timestamp::now(), Some(Exit::Code(0)));
        assert_eq!(
            record.last_exit.as_deref(),
            Some("exit code 0 (stopped on request)")
        );
        assert_eq!(record.running(), None);
        record.stop_cause = None;
        record.end(Timestamp::now(), None);
        assert_eq!(record.last_exit, None, "nobody saw it, nothing is claimed");
    }
}
