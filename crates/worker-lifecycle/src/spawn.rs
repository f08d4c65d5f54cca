use std::{collections::BTreeSet, path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use daemon_shell::{ProcessIdentity, oom_kills};
use diagnostics::{Code, Diagnostic};
use hive_contract::{SpawnRequest, SpawnResponse};
use hive_jobs::{JobContext, Reporter};
use input_validation::{Generation, WorkerId};
use jiff::Timestamp;
use model_catalog::ResolvedModel;
use state_files::SpawnRecord;
use tokio::{process::Command, sync::watch, time::Instant};
use worker_contract::{QUEEN_TOKEN_FILE_ENV, WORKER_TOKEN_FILE_ENV};

use crate::{
    Admission, Existing, Exit, Workers, admit,
    record::mark_ended,
    require_device,
    run_dir::unusable,
    starting::{Reached, Starting},
    workers::blocking,
};

/// Starts of one spawn before it is given up: each lost its port to another program.
const PORT_ATTEMPTS: usize = 16;

/// A spawn whose device, program and model are found.
struct Plan {
    request: SpawnRequest,
    program: PathBuf,
    model: ResolvedModel,
    /// From the record of the process before, if there was one.
    restarts: u64,
    last_exit: Option<String>,
}

/// A process that was started, with its record and its reaper.
pub(crate) struct Started {
    pub record: SpawnRecord,
    pub since: Instant,
    /// How it ended, once it has.
    pub exit: watch::Receiver<Option<Exit>>,
}

impl Workers {
    /// Spawns a worker and returns when it is up, or with `wait_ready` when it can infer.
    /// When the job is cancelled, the process is killed and the error is `CANCELLED`; a dropped
    /// future leaves the process running.
    pub async fn spawn(
        self: &Arc<Self>,
        request: SpawnRequest,
        context: &JobContext,
    ) -> Result<SpawnResponse, Diagnostic> {
        let (id, generation, wait_ready) = (
            request.worker_id.clone(),
            request.generation,
            request.wait_ready,
        );
        let what = format!("the spawn of worker {id}");
        let mut plan = context.phase(&what, None, self.prepare(request)).await?;
        let name = self.name_lock(&id);
        let lock = async { Ok(name.lock().await) };
        let held = context.phase(&what, None, lock).await?;
        let make_way = self.make_way(&mut plan, &context.reporter);
        context.phase(&what, None, make_way).await?;
        let mut starting = self.start_on_a_free_port(&plan, context).await?;
        // The name is free again for a spawn that supersedes this one while it loads.
        drop(held);

        let record = &starting.started.record;
        let response = SpawnResponse {
            worker_id: id,
            pid: record.process.map_or(0, |p| p.pid),
            port: record.port,
            generation,
        };
        if wait_ready {
            starting.until_ready().await?;
        } else {
            // The limits on loading hold for those who do not wait for it, too.
            starting.detach(self.tell.clone());
        }
        Ok(response)
    }

    /// Finds device, program and model; nothing is started before all three are there.
    async fn prepare(&self, request: SpawnRequest) -> Result<Plan, Diagnostic> {
        let (probe, catalog) = (Arc::clone(&self.probe), Arc::clone(&self.catalog));
        let binaries = self.settings.binaries.clone();
        blocking(move || {
            let backend = require_device(&probe.machine()?, request.device)?;
            let program = binaries.find(&request.model, backend)?;
            let model = catalog.resolve(&request.model)?;
            Ok(Plan {
                request,
                program,
                model,
                restarts: 0,
                last_exit: None,
            })
        })
        .await
    }

    /// Stops an older worker of this name and keeps what it leaves: its log, and how it
    /// ended.
    async fn make_way(&self, plan: &mut Plan, report: &Reporter) -> Result<(), Diagnostic> {
        let (id, generation) = (&plan.request.worker_id, plan.request.generation);
        let existing = self.read(id).await?;
        let admission = admit(
            id,
            generation,
            existing.as_ref().map(|record| Existing {
                generation: record.generation,
                running: record.running(),
            }),
        )?;
        if let (Admission::Supersede(process), Some(record)) = (admission, &existing) {
            report.info(
                "supersede",
                format!(
                    "worker {id} runs as generation {}; it makes way for {generation}",
                    record.generation
                ),
            );
            let cause = format!("superseded by generation {generation}");
            // Nobody waits for what it still runs: its requests have gone to others, or will.
            let drain = Some(Duration::ZERO);
            self.stop_process(record, process, drain, &cause, report)
                .await?;
        }
        if existing.is_some() {
            self.reaped(id).await;
            let after = self.read(id).await?;
            plan.restarts = after.as_ref().map_or(0, |record| record.restarts + 1);
            plan.last_exit = after.and_then(|record| record.last_exit);
        }
        let (runs, log) = (Arc::clone(&self.runs), self.runs.log(id));
        blocking(move || {
            runs.prune()?;
            log.rotate().map_err(|e| unusable(&log.path(), &e))
        })
        .await
    }

    async fn read(&self, id: &WorkerId) -> Result<Option<SpawnRecord>, Diagnostic> {
        let (runs, id) = (Arc::clone(&self.runs), id.clone());
        blocking(move || runs.read(&id)).await
    }

    /// Starts the process, on another port as long as the one chosen is taken when the
    /// worker binds it.
    async fn start_on_a_free_port(
        self: &Arc<Self>,
        plan: &Plan,
        context: &JobContext,
    ) -> Result<Starting, Diagnostic> {
        let (id, report) = (&plan.request.worker_id, &context.reporter);
        let mut tried = BTreeSet::new();
        for _ in 0..PORT_ATTEMPTS {
            let (lease, taken) = self.ports.lease(&tried)?;
            if let [first, ..] = taken[..] {
                let others = match taken.len() - 1 {
                    0 => String::new(),
                    n => format!(" and {n} more"),
                };
                report.info(
                    "port",
                    format!("port {first}{others} in use, {} is next", lease.port),
                );
            }
            report.info(
                "spawn",
                format!(
                    "starting worker {id} with {} on {}, port {}",
                    plan.request.model, plan.request.device, lease.port
                ),
            );
            let started = self.start(plan, lease.port).await?;
            let mut starting = Starting::new(
                Arc::clone(self),
                started,
                plan.model.size_bytes,
                context.clone(),
            )?;
            match starting.until_up().await? {
                Reached::Goal => return Ok(starting),
                Reached::PortTaken => {
                    report.warn(
                        "port",
                        format!("port {} was taken meanwhile, trying another", lease.port),
                    );
                    tried.insert(lease.port);
                }
            }
        }
        Err(Diagnostic::new(
            Code::PortInUse,
            format!("worker {id} lost its port to another program {PORT_ATTEMPTS} times"),
        )
        .hint("choose other ports with `--worker-ports`"))
    }

    /// Starts the process once, its record written before and after.
    async fn start(&self, plan: &Plan, port: u16) -> Result<Started, Diagnostic> {
        let argv = self.argv(plan, port);
        let mut record = SpawnRecord {
            worker_id: plan.request.worker_id.clone(),
            generation: plan.request.generation,
            model: plan.request.model.clone(),
            device: plan.request.device,
            port,
            argv: argv.clone(),
            process: None,
            started_at: Timestamp::now(),
            restarts: plan.restarts,
            stop_cause: None,
            ended_at: None,
            last_exit: plan.last_exit.clone(),
        };
        let (runs, first, log) = (
            Arc::clone(&self.runs),
            record.clone(),
            self.runs.log(&record.worker_id),
        );
        let (stdout, stderr) = blocking(move || {
            runs.write(&first)?;
            let open = || {
                let file = log.create()?;
                Ok((file.try_clone()?, file))
            };
            open().map_err(|e: std::io::Error| unusable(&log.path(), &e))
        })
        .await?;

        let oom_kills_before = oom_kills();
        let since = Instant::now();
        let spawned = Command::new(&plan.program)
            .args(&argv[1..])
            .env(WORKER_TOKEN_FILE_ENV, &self.settings.token_file)
            .env(QUEEN_TOKEN_FILE_ENV, &self.settings.token_file)
            .current_dir(self.runs.dir(&record.worker_id).path())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            // Its own group: a Ctrl+C for the hive is none for the worker, and a signal to
            // the group reaches what the worker started.
            .process_group(0)
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(e) => {
                self.update(&record, |r| mark_ended(r, Timestamp::now(), None))
                    .await?;
                return Err(Diagnostic::new(
                    Code::WorkerStartFailed,
                    format!("cannot start {}: {e}", plan.program.display()),
                )
                .hint("check that it is a program for this machine"));
            }
        };
        record.process = child.id().and_then(ProcessIdentity::of);
        let exit = self.reap(child, record.clone(), oom_kills_before);
        self.keep_exit(&record.worker_id, exit.clone());
        let process = record.process;
        self.update(&record, move |r| r.process = process).await?;
        Ok(Started {
            record,
            since,
            exit,
        })
    }

    /// Waits for the child in a task of its own, so that it never stays a zombie, and notes
    /// how it ended.
    fn reap(
        &self,
        mut child: tokio::process::Child,
        record: SpawnRecord,
        oom_kills_before: Option<u64>,
    ) -> watch::Receiver<Option<Exit>> {
        let (told, exit) = watch::channel(None);
        let (runs, tell) = (Arc::clone(&self.runs), self.tell.clone());
        tokio::spawn(async move {
            let exit = match child.wait().await {
                Ok(status) => Exit::of(status, oom_kills_before),
                Err(_) => Exit::Unknown,
            };
            let noted = blocking({
                let record = record.clone();
                move || {
                    runs.update(&record, |r| {
                        r.process = record.process;
                        mark_ended(r, Timestamp::now(), Some(exit));
                    })
                }
            })
            .await;
            let id = &record.worker_id;
            match noted {
                Ok(Some(SpawnRecord {
                    stop_cause: Some(cause),
                    ..
                })) => tell.info("exit", format!("worker {id} ended: {exit} ({cause})")),
                Ok(_) => tell.warn("exit", format!("worker {id} ended unasked: {exit}")),
                Err(e) => tell.warn("exit", format!("worker {id} ended: {exit}; {e}")),
            }
            let _ = told.send(Some(exit));
        });
        exit
    }

    pub(crate) async fn update(
        &self,
        record: &SpawnRecord,
        change: impl FnOnce(&mut SpawnRecord) + Send + 'static,
    ) -> Result<Option<SpawnRecord>, Diagnostic> {
        let (runs, record) = (Arc::clone(&self.runs), record.clone());
        blocking(move || runs.update(&record, change)).await
    }

    /// Program and arguments by the worker contract; no secret is among them.
    fn argv(&self, plan: &Plan, port: u16) -> Vec<String> {
        let request = &plan.request;
        let Generation(generation) = request.generation;
        let mut argv = vec![plan.program.to_string_lossy().into_owned()];
        let mut option = |name: &str, value: String| argv.extend([format!("--{name}"), value]);
        option("worker-id", request.worker_id.to_string());
        option("model", plan.model.argument.clone());
        option("device", request.device.to_string());
        option("port", port.to_string());
        option("queen-url", request.queen_url.clone());
        option("hive-id", self.settings.hive_id.to_string());
        option("generation", generation.to_string());
        option("alias", request.model.to_string());
        for (name, value) in [
            ("context-length", request.context_length),
            ("slots", request.slots),
            ("threads", request.threads),
        ] {
            if let Some(value) = value {
                option(name, value.to_string());
            }
        }
        argv
    }
}
