use std::{pin::pin, time::Duration};

use daemon_shell::{ProcessIdentity, Signal};
use diagnostics::Diagnostic;
use futures_util::future::{Fuse, FutureExt as _};
use hive_jobs::Reporter;
use jiff::Timestamp;
use state_files::SpawnRecord;
use tokio::time::{Instant, sleep_until};

use crate::{
    host::WorkerHost,
    record::mark_ended,
    stop_sequence::{StopEffect, StopEvent, StopLimits, StopSequence},
};

/// Stops a running process, whether this hive or an earlier one spawned it, and returns when it
/// is gone. `drain` replaces the limit in the settings; `cause` goes into the record. Drives a
/// [`StopSequence`].
pub(crate) async fn stop_process(
    host: &WorkerHost,
    record: &SpawnRecord,
    process: ProcessIdentity,
    drain: Option<Duration>,
    cause: &str,
    reporter: &Reporter,
) -> Result<(), Diagnostic> {
    let id = &record.worker_id;
    let limits = StopLimits {
        drain: drain.unwrap_or(host.settings.stop_limits.drain),
        ..host.settings.stop_limits
    };
    let mut sequence = StopSequence::new(limits);
    let client = host.client(record.port)?;
    let begin = Instant::now();
    let mut deadline = begin;
    let mut exited = pin!(process.gone());
    // Polled along with the rest, so that a worker that does not respond delays nothing.
    let mut request = pin!(Fuse::terminated());
    let mut event = StopEvent::Begin;
    set_cause(host, record, cause.to_owned()).await?;
    // A part of a model has no interface for such a request.
    let is_part = record.part_of.is_some();
    loop {
        let mut is_refused = false;
        for effect in sequence.step(event, begin.elapsed()) {
            match effect {
                StopEffect::RequestShutdown if is_part => is_refused = true,
                StopEffect::RequestShutdown => {
                    let drain = limits.drain.as_secs();
                    let message = if drain == 0 {
                        format!("requesting worker {id} to end its requests and exit")
                    } else {
                        format!("worker {id} is draining, for {drain} s at most")
                    };
                    reporter.info("stop", message);
                    request.set(client.shutdown().fuse());
                }
                StopEffect::Signal(Signal::Kill) => {
                    let ignored = format!(
                        "{cause}; it ignored SIGTERM for {} s and was sent SIGKILL",
                        limits.terminate.as_secs()
                    );
                    reporter.warn("stop", format!("worker {id}: {ignored}"));
                    set_cause(host, record, ignored).await?;
                    process.signal_group(Signal::Kill)?;
                }
                StopEffect::Signal(signal) => {
                    reporter.info("stop", format!("sending SIGTERM to worker {id}"));
                    process.signal_group(signal)?;
                }
                StopEffect::WaitUntil(time) => deadline = begin + time,
                StopEffect::Done => {
                    host.exits.recorded(id).await;
                    return record_exit(host, record).await;
                }
                StopEffect::GiveUp => {
                    return Err(process.survived_sigkill(&format!("worker {id}")));
                }
            }
        }
        if is_refused {
            event = StopEvent::RequestFailed;
            continue;
        }
        event = tokio::select! {
            biased;
            () = exited.as_mut() => StopEvent::Exited,
            response = request.as_mut() => match response {
                Ok(()) => StopEvent::Requested,
                Err(_) => StopEvent::RequestFailed,
            },
            () = sleep_until(deadline) => StopEvent::Timeout,
        };
    }
}

async fn set_cause(
    host: &WorkerHost,
    record: &SpawnRecord,
    cause: String,
) -> Result<(), Diagnostic> {
    let set = |r: &mut SpawnRecord| r.stop_cause = Some(cause);
    host.update(record, set).await.map(drop)
}

/// Records the exit of a process that is not a child of this hive.
async fn record_exit(host: &WorkerHost, record: &SpawnRecord) -> Result<(), Diagnostic> {
    let end = |r: &mut SpawnRecord| {
        if r.ended_at.is_none() {
            mark_ended(r, Timestamp::now(), None);
        }
    };
    host.update(record, end).await.map(drop)
}
