//! What the hive makes of a [`SpawnRecord`].

use hive_contract::{WorkerProcess, WorkerState};
use jiff::Timestamp;
use state_files::SpawnRecord;

use crate::exit::Exit;

/// Marks the process of a record as exited. `exit` is `None` if its exit status is unknown
/// because an earlier hive was its parent.
pub(crate) fn mark_ended(record: &mut SpawnRecord, now: Timestamp, exit: Option<Exit>) {
    record.ended_at = Some(now);
    record.last_exit = match (exit, &record.stop_cause) {
        (Some(exit), Some(cause)) => Some(format!("{exit} ({cause})")),
        (Some(exit), None) => Some(exit.to_string()),
        (None, cause) => cause.clone(),
    };
}

/// The record in terms of the hive's API, checked against the process table.
pub(crate) fn worker_entry(record: &SpawnRecord, now: Timestamp) -> WorkerProcess {
    let running = record.running();
    let uptime = now.duration_since(record.started_at).as_secs();
    WorkerProcess {
        worker_id: record.worker_id.clone(),
        generation: record.generation,
        model: record.model.clone(),
        device: record.device,
        port: record.port,
        pid: record.process.map_or(0, |p| p.pid),
        state: match running {
            Some(_) => WorkerState::Running,
            None => WorkerState::Exited,
        },
        started_at: record.started_at,
        uptime_seconds: running.map_or(0, |_| u64::try_from(uptime).unwrap_or(0)),
        rss_bytes: running.and_then(|p| p.rss_bytes()).unwrap_or(0),
        vram_bytes: None,
        restarts: record.restarts,
        engine: record.engine.clone(),
        last_exit: record.last_exit.clone(),
        ended_by_itself: running.is_none() && record.stop_cause.is_none(),
        part_of: record.part_of.clone(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use daemon_shell::ProcessIdentity;
    use input_validation::{DeviceId, Generation};

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
            engine: None,
            restarts: 2,
            stop_cause: None,
            ended_at: None,
            last_exit: Some("exit code 1".to_owned()),
            part_of: None,
        }
    }

    #[test]
    fn a_running_worker_has_uptime_and_memory() {
        let record = record("w-1");
        let later = record.started_at + jiff::SignedDuration::from_secs(90);
        let entry = worker_entry(&record, later);
        assert_eq!(entry.state, WorkerState::Running);
        assert_eq!(entry.uptime_seconds, 90);
        assert!(entry.rss_bytes > 0);
        assert!(!entry.ended_by_itself);
        assert_eq!(entry.last_exit.as_deref(), Some("exit code 1"));
    }

    #[test]
    fn a_reused_pid_is_not_the_worker() {
        let mut record = record("w-1");
        let own = ProcessIdentity::own();
        record.process = Some(ProcessIdentity {
            start_time: own.start_time + 1,
            ..own
        });
        let entry = worker_entry(&record, Timestamp::now());
        assert_eq!(entry.state, WorkerState::Exited);
        assert_eq!((entry.uptime_seconds, entry.rss_bytes), (0, 0));
    }

    #[test]
    fn last_exit_names_the_stop_cause_and_nothing_that_is_unknown() {
        let mut record = record("w-1");
        record.stop_cause = Some("stopped on request".to_owned());
        mark_ended(&mut record, Timestamp::now(), Some(Exit::Code(0)));
        assert_eq!(
            record.last_exit.as_deref(),
            Some("exit code 0 (stopped on request)")
        );
        assert_eq!(record.running(), None);
        assert!(!worker_entry(&record, Timestamp::now()).ended_by_itself);
        record.stop_cause = None;
        mark_ended(&mut record, Timestamp::now(), None);
        assert_eq!(record.last_exit, None);
        assert!(worker_entry(&record, Timestamp::now()).ended_by_itself);
    }
}
