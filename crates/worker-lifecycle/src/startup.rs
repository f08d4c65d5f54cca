use std::{sync::Arc, time::Duration};

use daemon_shell::{Signal, blocking};
use diagnostics::{Diagnostic, excerpt};
use hive_contract::Progress;
use hive_jobs::JobContext;
use rest_client::CallError;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use worker_contract::{LoadProgress, WorkerClient};

use crate::{
    errors::{
        describe_start_failure, exited_during_startup, log_hint, out_of_memory, start_failed,
    },
    exit::Exit,
    host::WorkerHost,
    process::WorkerProcess,
    reservations::Reservation,
    start_sequence::{StartEffect, StartEvent, StartFailure, StartSequence},
};

/// Interval at which a starting worker is polled.
const POLL_EVERY: Duration = Duration::from_millis(50);
/// Time that a killed process has to exit.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Number of log lines in an error.
const LOG_LINES: usize = 8;
/// Number of characters of each log line in an error.
const LOG_LINE_CHARS: usize = 400;

/// Result of waiting for a worker that listens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Listening {
    Yes,
    /// It exited because its port was taken.
    PortTaken,
}

/// A started process that is followed until it is ready. Drives a [`StartSequence`].
pub(crate) struct Startup {
    process: WorkerProcess,
    host: Arc<WorkerHost>,
    client: WorkerClient,
    sequence: StartSequence,
    context: JobContext,
    poll: Interval,
    listening: bool,
    ready: bool,
}

impl Startup {
    /// Follows `process`, which loads `size_bytes` of weights.
    pub fn new(
        host: Arc<WorkerHost>,
        process: WorkerProcess,
        size_bytes: u64,
        context: JobContext,
    ) -> Result<Self, Diagnostic> {
        let mut poll = interval(POLL_EVERY);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            client: host.client(process.record.port)?,
            sequence: StartSequence::new(host.settings.start_limits, size_bytes),
            host,
            process,
            context,
            poll,
            listening: false,
            ready: false,
        })
    }

    pub fn process(&self) -> &WorkerProcess {
        &self.process
    }

    /// Waits until the worker responds under its own id and generation.
    pub async fn until_listening(&mut self) -> Result<Listening, Diagnostic> {
        self.follow(|this| this.listening).await
    }

    /// Waits until the worker can serve requests.
    pub async fn until_ready(&mut self) -> Result<(), Diagnostic> {
        self.follow(|this| this.ready).await.map(drop)
    }

    /// Follows the worker in a task of its own, so that the limits on loading hold although no
    /// caller waits. Reports to the node's events.
    pub fn detach(mut self, reservation: Reservation) {
        self.context = JobContext::new(self.host.node_events.clone());
        tokio::spawn(async move {
            let _reservation = reservation;
            if let Err(e) = self.until_ready().await {
                self.context.reporter.warn("spawn", e.message);
            }
        });
    }

    async fn follow(&mut self, reached: fn(&Self) -> bool) -> Result<Listening, Diagnostic> {
        while !reached(self) {
            let event = self.observe().await;
            for effect in self.sequence.step(event, self.process.started.elapsed()) {
                match effect {
                    StartEffect::Up => {
                        self.listening = true;
                        self.narrate("up", "is up and loading its model");
                    }
                    StartEffect::Progress(progress) => self.report_progress(progress),
                    StartEffect::Ready => {
                        self.ready = true;
                        self.narrate("ready", "is ready");
                    }
                    StartEffect::NextPort => return Ok(Listening::PortTaken),
                    StartEffect::Fail(failure) => return Err(self.fail(failure).await),
                }
            }
        }
        Ok(Listening::Yes)
    }

    /// Waits for the next event of the worker.
    async fn observe(&mut self) -> StartEvent {
        let Self {
            process,
            context,
            poll,
            client,
            listening,
            ..
        } = self;
        let record = &process.record;
        let polled = async {
            poll.tick().await;
            if *listening {
                return match client.ready().await {
                    Ok(status) if status.ready => StartEvent::Ready,
                    Ok(status) => StartEvent::Loading(status.loading),
                    Err(_) => StartEvent::NoResponse,
                };
            }
            match client.health().await {
                Ok(health)
                    if health.worker_id == record.worker_id
                        && health.generation == record.generation
                        && accepts_our_token(client).await =>
                {
                    StartEvent::Listening(health.api_version)
                }
                // Nothing listens yet, or another process does.
                _ => StartEvent::NoResponse,
            }
        };
        tokio::select! {
            biased;
            exit = process.exit.wait_for(Option::is_some) => {
                StartEvent::Exited(exit.ok().and_then(|e| *e).unwrap_or(Exit::Unknown))
            }
            () = context.cancel.cancelled() => StartEvent::Cancel,
            event = polled => event,
        }
    }

    fn narrate(&self, action: &str, what: &str) {
        let id = &self.process.record.worker_id;
        let message = format!("worker {id} {what}");
        self.context.reporter.info(action, message);
    }

    fn report_progress(&self, LoadProgress { done, total }: LoadProgress) {
        let rate = done as f64 / self.process.started.elapsed().as_secs_f64().max(0.001);
        let left = total.saturating_sub(done) as f64;
        self.context.reporter.progress(Progress {
            item: None,
            sha256: None,
            phase: "load".to_owned(),
            done,
            total: (total > 0).then_some(total),
            unit: "bytes".to_owned(),
            rate: Some(rate),
            eta_seconds: (rate > 0.0).then_some(left / rate),
        });
    }

    /// Kills what is left of the process and returns the reason for the failure.
    async fn fail(&mut self, failure: StartFailure) -> Diagnostic {
        if let StartFailure::Exited(exit) = failure {
            return self.explain_exit(exit).await;
        }
        let (id, port) = (
            self.process.record.worker_id.clone(),
            self.process.record.port,
        );
        if let Err(e) = self.kill(describe_start_failure(failure, port)).await {
            self.context.reporter.warn("kill", e.message);
        }
        start_failed(&id, failure, port, self.log_tail().await)
    }

    async fn kill(&mut self, cause: String) -> Result<(), Diagnostic> {
        let record = &self.process.record;
        let set_cause = |r: &mut state_files::SpawnRecord| r.stop_cause = Some(cause);
        self.host.update(record, set_cause).await?;
        if let Some(process) = record.process {
            process.signal_group(Signal::Kill)?;
        }
        // A process that is blocked in the kernel does not exit in time.
        let exited = self.process.exit.wait_for(Option::is_some);
        let _ = timeout(KILL_LIMIT, exited).await;
        Ok(())
    }

    async fn explain_exit(&self, exit: Exit) -> Diagnostic {
        let id = &self.process.record.worker_id;
        let log = self.host.runs.log(id);
        // The worker's own reason comes first.
        if let Ok(Some(mut fatal)) = blocking(move || Ok(log.fatal())).await {
            fatal.hint.get_or_insert_with(|| log_hint(id));
            return fatal;
        }
        if exit.is_out_of_memory() {
            return out_of_memory(id, exit);
        }
        let cause = match self.host.update(&self.process.record, |_| {}).await {
            Ok(Some(record)) => record.stop_cause,
            _ => None,
        };
        exited_during_startup(id, exit, cause, self.log_tail().await)
    }

    /// The last lines of the log, as far as they can be read.
    async fn log_tail(&self) -> Vec<String> {
        let log = self.host.runs.log(&self.process.record.worker_id);
        blocking(move || log.tail(LOG_LINES).map_err(Diagnostic::internal))
            .await
            .unwrap_or_default()
            .iter()
            .map(|line| excerpt(line, LOG_LINE_CHARS))
            .collect()
    }
}

/// Whether the worker belongs to this hive: another rbee on this machine may have a worker of
/// the same id, but not the same token.
async fn accepts_our_token(client: &WorkerClient) -> bool {
    !matches!(client.info().await, Err(CallError::Response(401, _)))
}
