use std::{pin::pin, sync::Arc, time::Duration};

use daemon_shell::{ProcessIdentity, Signal};
use diagnostics::Diagnostic;
use futures_util::future::{Fuse, FutureExt as _};
use hive_jobs::Reporter;
use jiff::Timestamp;
use state_files::SpawnRecord;
use tokio::time::{Instant, sleep_until};

use crate::{
    Stop, StopEffect, StopEvent, StopLimits, Workers, record::mark_ended, workers::blocking,
};

impl Workers {
    /// Runs a [`Stop`] on a living process, spawned by this hive or an earlier one.
    pub(crate) async fn stop_process(
        &self,
        record: &SpawnRecord,
        process: ProcessIdentity,
        drain: Option<Duration>,
        cause: &str,
        report: &Reporter,
    ) -> Result<(), Diagnostic> {
        let id = &record.worker_id;
        let limits = StopLimits {
            drain: drain.unwrap_or(self.settings.stop_limits.drain),
            ..self.settings.stop_limits
        };
        let mut stop = Stop::new(limits);
        let client = self.client(record.port)?;
        let origin = Instant::now();
        let mut due = origin;
        let mut gone = pin!(process.gone());
        // Polled beside the rest, so that a worker that does not answer delays nothing.
        let mut asking = pin!(Fuse::terminated());
        let mut event = StopEvent::Begin;
        self.note_cause(record, cause.to_owned()).await?;
        loop {
            for effect in stop.step(event, origin.elapsed()) {
                match effect {
                    StopEffect::Ask => {
                        let drain = limits.drain.as_secs();
                        report.info(
                            "stop",
                            format!("worker {id} may finish what runs, {drain} s at most"),
                        );
                        asking.set(client.shutdown().fuse());
                    }
                    StopEffect::Signal(signal) => {
                        if signal == Signal::Kill {
                            let ignored = format!(
                                "{cause}; it ignored SIGTERM for {} s and got SIGKILL",
                                limits.terminate.as_secs()
                            );
                            report.warn("stop", format!("worker {id}: {ignored}"));
                            self.note_cause(record, ignored).await?;
                        } else {
                            report.info("stop", format!("worker {id} gets SIGTERM"));
                        }
                        process.signal_group(signal)?;
                    }
                    StopEffect::WaitUntil(time) => due = origin + time,
                    StopEffect::Done => {
                        self.reaped(id).await;
                        return self.note_end(record).await;
                    }
                    StopEffect::GiveUp => {
                        return Err(Diagnostic::internal(format!(
                            "worker {id} (process {}) does not end even by SIGKILL: the kernel holds it",
                            process.pid
                        )));
                    }
                }
            }
            event = loop {
                let ask_failed = async { asking.as_mut().await.is_err() };
                tokio::select! {
                    biased;
                    () = gone.as_mut() => break StopEvent::Gone,
                    failed = ask_failed => if failed {
                        break StopEvent::AskFailed;
                    },
                    () = sleep_until(due) => break StopEvent::Due,
                }
            };
        }
    }

    async fn note_cause(&self, record: &SpawnRecord, cause: String) -> Result<(), Diagnostic> {
        let (runs, record) = (Arc::clone(&self.runs), record.clone());
        blocking(move || {
            runs.update(&record, |r| r.stop_cause = Some(cause))
                .map(drop)
        })
        .await
    }

    /// Notes the end of a process whose exit nobody waits for.
    async fn note_end(&self, record: &SpawnRecord) -> Result<(), Diagnostic> {
        let (runs, record) = (Arc::clone(&self.runs), record.clone());
        blocking(move || {
            let note = |r: &mut SpawnRecord| {
                if r.ended_at.is_none() {
                    mark_ended(r, Timestamp::now(), None);
                }
            };
            runs.update(&record, note).map(drop)
        })
        .await
    }
}
