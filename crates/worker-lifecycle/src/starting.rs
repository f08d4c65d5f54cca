use std::{sync::Arc, time::Duration};

use daemon_shell::Signal;
use diagnostics::{Code, Diagnostic, excerpt};
use hive_contract::Progress;
use hive_jobs::{JobContext, Reporter};
use rest_client::CallError;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use worker_contract::{API_VERSION, LoadProgress, WorkerClient};

use crate::{
    Exit, Launch, LaunchEffect, LaunchEvent, LaunchFailure, Workers, spawn::Started,
    workers::blocking,
};

/// How often a starting worker is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the end of a killed process is waited for.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Last lines of the log that an error tells, and of each the characters.
const LOG_LINES: usize = 8;
const LOG_LINE_CHARS: usize = 400;

/// What a start came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// What was waited for.
    Goal,
    /// It ended because its port was taken.
    PortTaken,
}

/// A started process that is followed until it can infer: runs a [`Launch`].
pub(crate) struct Starting {
    pub started: Started,
    workers: Arc<Workers>,
    client: WorkerClient,
    launch: Launch,
    context: JobContext,
    look: Interval,
    up: bool,
    ready: bool,
}

impl Starting {
    pub fn new(
        workers: Arc<Workers>,
        started: Started,
        size_bytes: u64,
        context: JobContext,
    ) -> Result<Self, Diagnostic> {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            client: workers.client(started.record.port)?,
            launch: Launch::new(workers.settings.start_limits, size_bytes),
            workers,
            started,
            context,
            look,
            up: false,
            ready: false,
        })
    }

    /// Follows it until it answers under its own name.
    pub async fn until_up(&mut self) -> Result<Reached, Diagnostic> {
        self.follow(|this| this.up).await
    }

    /// Follows it until it can infer.
    pub async fn until_ready(&mut self) -> Result<(), Diagnostic> {
        self.follow(|this| this.ready).await.map(drop)
    }

    /// Follows it until it can infer, in a task of its own that tells `report` the outcome.
    pub fn detach(mut self, report: Reporter) {
        self.context = JobContext::new(report);
        tokio::spawn(async move {
            if let Err(e) = self.until_ready().await {
                self.context.reporter.warn("spawn", e.message);
            }
        });
    }

    async fn follow(&mut self, there: fn(&Self) -> bool) -> Result<Reached, Diagnostic> {
        while !there(self) {
            let event = self.observe().await;
            for effect in self.launch.step(event, self.started.since.elapsed()) {
                match effect {
                    LaunchEffect::Up => {
                        self.up = true;
                        self.narrate("up", "is up and loads its model");
                    }
                    LaunchEffect::Progress(progress) => self.tell_progress(progress),
                    LaunchEffect::Ready => {
                        self.ready = true;
                        self.narrate("ready", "is ready");
                    }
                    LaunchEffect::NextPort => return Ok(Reached::PortTaken),
                    LaunchEffect::Fail(failure) => return Err(self.fail(failure).await),
                }
            }
        }
        Ok(Reached::Goal)
    }

    /// The next thing that is seen of it.
    async fn observe(&mut self) -> LaunchEvent {
        let Self {
            started,
            context,
            look,
            client,
            up,
            ..
        } = self;
        let record = &started.record;
        let seen = async {
            look.tick().await;
            if *up {
                return match client.ready().await {
                    Ok(answer) if answer.ready => LaunchEvent::Ready,
                    Ok(answer) => LaunchEvent::Loading(answer.loading),
                    Err(_) => LaunchEvent::Silent,
                };
            }
            match client.health().await {
                Ok(health)
                    if health.worker_id == record.worker_id
                        && health.generation == record.generation
                        && takes_our_token(client).await =>
                {
                    LaunchEvent::Listening(health.api_version)
                }
                // Not yet, or another program on this port.
                _ => LaunchEvent::Silent,
            }
        };
        tokio::select! {
            biased;
            exit = started.exit.wait_for(Option::is_some) => {
                LaunchEvent::Exited(exit.ok().and_then(|e| *e).unwrap_or(Exit::Unknown))
            }
            () = context.cancel.cancelled() => LaunchEvent::Cancel,
            event = seen => event,
        }
    }

    fn narrate(&self, action: &str, what: &str) {
        let id = &self.started.record.worker_id;
        self.context
            .reporter
            .info(action, format!("worker {id} {what}"));
    }

    fn tell_progress(&self, LoadProgress { done, total }: LoadProgress) {
        let rate = done as f64 / self.started.since.elapsed().as_secs_f64().max(0.001);
        let left = total.saturating_sub(done) as f64;
        self.context.reporter.progress(Progress {
            phase: "load".to_owned(),
            done,
            total: (total > 0).then_some(total),
            unit: "bytes".to_owned(),
            rate: Some(rate),
            eta_seconds: (rate > 0.0).then_some(left / rate),
        });
    }

    /// Ends what is left of the process and tells why the start failed.
    async fn fail(&mut self, failure: LaunchFailure) -> Diagnostic {
        let id = self.started.record.worker_id.clone();
        let (code, what) = match failure {
            LaunchFailure::Exited(exit) => return self.explain_exit(exit).await,
            LaunchFailure::Cancelled => (
                Code::Cancelled,
                "was killed because its spawn was cancelled".to_owned(),
            ),
            LaunchFailure::Version(theirs) => (
                Code::VersionIncompatible,
                format!(
                    "speaks version {theirs} of the worker contract, this hive version {API_VERSION}"
                ),
            ),
            LaunchFailure::NoAnswer(after) => (
                Code::WorkerStartFailed,
                format!(
                    "did not answer on port {} within {} s",
                    self.started.record.port,
                    after.as_secs()
                ),
            ),
            LaunchFailure::Stuck(after, at) => (
                Code::LoadingTimeout,
                format!(
                    "made no progress for {} s while loading, at {}",
                    after.as_secs(),
                    share(at)
                ),
            ),
            LaunchFailure::TooSlow(after, at) => (
                Code::LoadingTimeout,
                format!(
                    "loaded for {} s, the limit for a model of its size, and came to {}",
                    after.as_secs(),
                    share(at)
                ),
            ),
        };
        if let Err(e) = self.kill(&what).await {
            self.context.reporter.warn("kill", e.message);
        }
        let error = Diagnostic::new(code, format!("worker {id} {what}"));
        match code {
            Code::Cancelled => error,
            Code::VersionIncompatible => error.hint("install hive and workers of one release"),
            _ => self.with_log(error).await,
        }
    }

    async fn kill(&mut self, cause: &str) -> Result<(), Diagnostic> {
        let cause = cause.to_owned();
        let record = &self.started.record;
        self.workers
            .update(record, |r| r.stop_cause = Some(cause))
            .await?;
        if let Some(process) = record.process {
            process.signal_group(Signal::Kill)?;
        }
        // The reaper notes the end; only a process that the kernel holds is not waited for.
        let _ = timeout(KILL_LIMIT, self.started.exit.wait_for(Option::is_some)).await;
        Ok(())
    }

    async fn explain_exit(&self, exit: Exit) -> Diagnostic {
        let id = &self.started.record.worker_id;
        let log = self.workers.runs.log(id);
        // What it said itself comes first.
        if let Ok(Some(mut fatal)) = blocking(move || Ok(log.fatal())).await {
            fatal.hint.get_or_insert_with(|| log_hint(id));
            return fatal;
        }
        if exit == Exit::OutOfMemory {
            return Diagnostic::new(
                Code::OutOfMemory,
                format!("the kernel killed worker {id} for want of memory while it started"),
            )
            .hint("free memory, or choose a smaller quantisation or context");
        }
        let cause = match self.workers.update(&self.started.record, |_| {}).await {
            Ok(Some(record)) => record.stop_cause,
            _ => None,
        };
        let cause = cause.map(|cause| format!(" ({cause})")).unwrap_or_default();
        self.with_log(Diagnostic::new(
            Code::WorkerStartFailed,
            format!("worker {id} ended while it started: {exit}{cause}"),
        ))
        .await
    }

    /// Adds the last lines of the log.
    async fn with_log(&self, mut error: Diagnostic) -> Diagnostic {
        let id = &self.started.record.worker_id;
        let log = self.workers.runs.log(id);
        let lines: Vec<String> = blocking(move || Ok(log.tail(LOG_LINES)))
            .await
            .and_then(|tail| tail.map_err(Diagnostic::internal))
            .unwrap_or_default()
            .iter()
            .map(|line| excerpt(line, LOG_LINE_CHARS))
            .collect();
        if lines.is_empty() {
            error.message += "; its log is empty";
        } else {
            error.message += "; its log ends with:";
            for line in &lines {
                error.message += "\n    ";
                error.message += line;
            }
        }
        error.hint(log_hint(id)).detail("log", lines)
    }
}

/// Another rbee on this machine may have a worker of the same name.
async fn takes_our_token(client: &WorkerClient) -> bool {
    !matches!(client.info().await, Err(CallError::Answer(401, _)))
}

fn log_hint(id: &input_validation::WorkerId) -> String {
    format!("read its log with `rbee-keeper worker logs {id}`")
}

fn share(LoadProgress { done, total }: LoadProgress) -> String {
    match total {
        0 => format!("{done} bytes"),
        total => format!("{done} of {total} bytes"),
    }
}
