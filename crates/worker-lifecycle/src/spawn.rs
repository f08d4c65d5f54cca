use std::{collections::BTreeSet, sync::Arc, time::Duration};

use daemon_shell::blocking;
use device_probe::Probe;
use diagnostics::{Code, Diagnostic};
use engine_catalog::MachineEngines;
use hive_contract::{SpawnRequest, SpawnResponse, SplitRole};
use hive_jobs::{JobContext, Reporter};
use input_validation::{Generation, NodeName};
use jiff::Timestamp;
use model_catalog::{ModelCatalog, ResolvedModel};
use preflight_validation::Freed;
use state_files::SpawnRecord;
use worker_catalog::Package;

use crate::{
    admission::{Admission, Existing, admit},
    binaries::{WorkerProgram, program},
    errors::{port_lost, unusable},
    host::WorkerHost,
    id_locks::IdLocks,
    ports::Ports,
    preflight::{self, Decision},
    process::WorkerProcess,
    reservations::{Reservation, Reservations},
    shutdown::stop_process,
    spawn_request,
    startup::{Listening, Startup},
};

/// Number of ports that are tried when each is taken before the worker binds it.
const PORT_ATTEMPTS: usize = 16;

/// Spawns workers.
pub(crate) struct Spawner {
    pub(crate) host: Arc<WorkerHost>,
    catalog: Arc<ModelCatalog>,
    pub(crate) probe: Arc<dyn Probe>,
    pub(crate) ports: Ports,
    pub(crate) id_locks: IdLocks,
    pub(crate) reservations: Arc<Reservations>,
    /// One check of the memory after another, each with the reservations of those before it.
    pub(crate) memory_checks: tokio::sync::Mutex<()>,
}

/// From the record of the previous spawn, if there was one.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    pub(crate) restarts: u64,
    pub(crate) last_exit: Option<String>,
}

/// A spawn whose device, binary and model exist.
struct Plan {
    request: SpawnRequest,
    program: WorkerProgram,
    model: ResolvedModel,
    decision: Decision,
    reservation: Reservation,
    earlier: Earlier,
}

impl Plan {
    fn environment(&self) -> &[(String, String)] {
        &self.program.launch.environment
    }
}

impl Spawner {
    pub fn new(host: Arc<WorkerHost>, catalog: Arc<ModelCatalog>, probe: Arc<dyn Probe>) -> Self {
        Self {
            ports: Ports::new(host.settings.ports),
            host,
            catalog,
            probe,
            id_locks: IdLocks::default(),
            reservations: Arc::default(),
            memory_checks: tokio::sync::Mutex::default(),
        }
    }

    /// [`Workers::spawn`](crate::Workers::spawn).
    pub async fn spawn(
        &self,
        request: SpawnRequest,
        context: &JobContext,
    ) -> Result<SpawnResponse, Diagnostic> {
        spawn_request::check(&request)?;
        if let Some(SplitRole::Part { of, memory_bytes }) = request.split.clone() {
            return self.spawn_part(request, (of, memory_bytes), context).await;
        }
        let (id, generation, wait_ready) = (
            request.worker_id.clone(),
            request.generation,
            request.wait_ready,
        );
        let what = format!("the spawn of worker {id}");
        let mut plan = context
            .phase(&what, None, self.prepare(request, context))
            .await?;
        let lock = self.id_locks.of(&id);
        let locked = async { Ok(lock.lock().await) };
        let held = context.phase(&what, None, locked).await?;
        let make_way = self.make_way(&plan.request, &context.reporter);
        plan.earlier = context.phase(&what, None, make_way).await?;
        let mut startup = self.start_on_a_free_port(&plan, context).await?;
        // From here on, a spawn of a higher generation may supersede this one.
        drop(held);

        let record = &startup.process().record;
        let response = SpawnResponse {
            worker_id: id,
            pid: record.process.map_or(0, |p| p.pid),
            port: record.port,
            generation,
        };
        if wait_ready {
            startup.until_ready().await?;
        } else {
            startup.detach(plan.reservation);
        }
        Ok(response)
    }

    /// Finds device, binary and model, and checks that the worker fits. Nothing is started
    /// unless all checks pass.
    async fn prepare(
        &self,
        request: SpawnRequest,
        context: &JobContext,
    ) -> Result<Plan, Diagnostic> {
        let freed = self.freed(&request).await?;
        let reporter = &context.reporter;
        let settings = &self.host.settings;
        let (engines, decision, reservation) =
            match self.decide(&request, freed, Vec::new(), reporter).await {
                Err(error) if lacks_engine(&error) => {
                    let offers = settings.binaries.offers().await.unwrap_or_else(|error| {
                        reporter.warn("catalog", error.message);
                        Vec::new()
                    });
                    if offers.is_empty() {
                        return Err(error);
                    }
                    self.decide(&request, freed, offers, reporter).await?
                }
                decided => decided?,
            };
        let program = program(settings, engines, &request, &decision, context).await?;
        let catalog = Arc::clone(&self.catalog);
        blocking(move || {
            let model = catalog.resolve_for_worker(&request.model)?;
            Ok(Plan {
                request,
                program,
                model,
                decision,
                reservation,
                earlier: Earlier::default(),
            })
        })
        .await
    }

    /// Checks the machine, chooses the engine among its own and these packages, and reserves the
    /// memory.
    async fn decide(
        &self,
        request: &SpawnRequest,
        freed: Freed,
        offers: Vec<(Package, bool)>,
        reporter: &Reporter,
    ) -> Result<(MachineEngines, Decision, Reservation), Diagnostic> {
        let _turn = self.memory_checks.lock().await;
        let reservations = Arc::clone(&self.reservations);
        let (probe, catalog) = (Arc::clone(&self.probe), Arc::clone(&self.catalog));
        let settings = &self.host.settings;
        let (binaries, engines) = (Arc::clone(&settings.binaries), settings.engines.clone());
        let (request, reporter) = (request.clone(), reporter.clone());
        blocking(move || {
            let mut engines = engines.engines(&binaries.catalog().packages()?);
            engines.add_offers(offers);
            let machine = probe.machine()?;
            let machine = machine.with_programs(binaries.available(), engines.entries());
            let machine = reservations.without_reserved(machine);
            let facts = catalog.facts(&request.model);
            let facts = facts.map(|facts| spawn_request::own_layers(facts, &request));
            let (choice, dir) = (engines.for_choice(), binaries.catalog().release_dir());
            let known = (&choice, freed);
            let decision = preflight::check(&request, &machine, &facts, known, dir, &reporter)?;
            let reservation = reservations.add(request.device, decision.memory);
            Ok((engines, decision, reservation))
        })
        .await
    }

    /// The memory of an older worker of this id, which is stopped before the start.
    pub(crate) async fn freed(&self, request: &SpawnRequest) -> Result<Freed, Diagnostic> {
        let existing = self.host.read(&request.worker_id).await?;
        let older = existing.filter(|record| record.generation < request.generation);
        let running = older.and_then(|record| Some((record.device, record.running()?)));
        Ok(
            running.map_or_else(Freed::default, |(device, process)| Freed {
                ram_bytes: process.rss_bytes().unwrap_or(0),
                device: Some(device),
            }),
        )
    }

    /// Stops an older worker of this id, takes over its restart count and exit, and rotates its
    /// log.
    pub(crate) async fn make_way(
        &self,
        request: &SpawnRequest,
        reporter: &Reporter,
    ) -> Result<Earlier, Diagnostic> {
        let (id, generation) = (&request.worker_id, request.generation);
        let mut earlier = Earlier::default();
        let existing = self.host.read(id).await?;
        let admission = admit(
            id,
            generation,
            existing.as_ref().map(|record| Existing {
                generation: record.generation,
                running: record.running(),
            }),
        )?;
        if let (Admission::Supersede(process), Some(record)) = (admission, &existing) {
            let message = format!(
                "worker {id} is running as generation {}; stopping it for generation {generation}",
                record.generation
            );
            reporter.info("supersede", message);
            let cause = format!("superseded by generation {generation}");
            // Its requests have been moved to other workers, or will be.
            let drain = Some(Duration::ZERO);
            stop_process(&self.host, record, process, drain, &cause, reporter).await?;
        }
        if existing.is_some() {
            self.host.exits.recorded(id).await;
            let after = self.host.read(id).await?;
            earlier.restarts = after.as_ref().map_or(0, |record| record.restarts + 1);
            earlier.last_exit = after.and_then(|record| record.last_exit);
        }
        let (runs, log) = (Arc::clone(&self.host.runs), self.host.runs.log(id));
        blocking(move || {
            runs.prune()?;
            log.rotate().map_err(|e| unusable(&log.path(), &e))
        })
        .await?;
        Ok(earlier)
    }

    /// Starts the process. Tries another port if the chosen one is taken before the worker
    /// binds it.
    async fn start_on_a_free_port(
        &self,
        plan: &Plan,
        context: &JobContext,
    ) -> Result<Startup, Diagnostic> {
        let (id, reporter) = (&plan.request.worker_id, &context.reporter);
        let mut tried = BTreeSet::new();
        for _ in 0..PORT_ATTEMPTS {
            let (lease, taken) = self.ports.lease(&tried)?;
            let port = lease.port;
            if let [first, ..] = taken[..] {
                let others = match taken.len() - 1 {
                    0 => String::new(),
                    n => format!(" and {n} more"),
                };
                reporter.info(
                    "port",
                    format!("port {first}{others} in use, trying {port}"),
                );
            }
            let (model, device) = (&plan.request.model, plan.request.device);
            let message = format!("starting worker {id} with {model} on {device}, port {port}");
            reporter.info("spawn", message);
            let record = self.record(plan, port);
            let (program, environment) = (plan.program.lease.program(), plan.environment());
            let process = WorkerProcess::start(&self.host, program, environment, record).await?;
            if let Some(identity) = process.record.process {
                plan.reservation.started(identity);
            }
            let mut startup = Startup::new(
                Arc::clone(&self.host),
                process,
                plan.model.size_bytes,
                context.clone(),
            )?;
            match startup.until_listening().await? {
                Listening::Yes => return Ok(startup),
                Listening::PortTaken => {
                    let message = format!(
                        "port {port} was taken before worker {id} bound it, trying another"
                    );
                    reporter.warn("port", message);
                    tried.insert(port);
                }
            }
        }
        Err(port_lost(id, PORT_ATTEMPTS))
    }

    /// The record of a process that is about to start.
    fn record(&self, plan: &Plan, port: u16) -> SpawnRecord {
        SpawnRecord {
            worker_id: plan.request.worker_id.clone(),
            generation: plan.request.generation,
            model: plan.request.model.clone(),
            device: plan.request.device,
            port,
            argv: argv(plan, port, &self.host.settings.hive_id),
            process: None,
            started_at: Timestamp::now(),
            engine: plan.decision.engine.as_ref().map(|e| e.decision.clone()),
            restarts: plan.earlier.restarts,
            stop_cause: None,
            ended_at: None,
            last_exit: plan.earlier.last_exit.clone(),
            part_of: None,
        }
    }
}

/// Whether a package may provide what is missing.
fn lacks_engine(error: &Diagnostic) -> bool {
    matches!(
        error.code,
        Code::UnsupportedModel
            | Code::UnsupportedQuantization
            | Code::BackendUnavailable
            | Code::NotFound
    )
}

/// Binary and arguments according to the worker contract. They contain no secret.
fn argv(plan: &Plan, port: u16, hive_id: &NodeName) -> Vec<String> {
    let request = &plan.request;
    let Generation(generation) = request.generation;
    let mut argv = vec![plan.program.lease.program().to_string_lossy().into_owned()];
    let mut option = |name: &str, value: String| argv.extend([format!("--{name}"), value]);
    option("worker-id", request.worker_id.to_string());
    option("model", plan.model.argument.clone());
    option("device", request.device.to_string());
    option("port", port.to_string());
    option("queen-url", request.queen_url.clone());
    option("hive-id", hive_id.to_string());
    option("generation", generation.to_string());
    option("alias", request.model.to_string());
    for (name, value) in [
        ("context-length", request.context_length.map(u64::from)),
        ("slots", request.slots.map(u64::from)),
        ("threads", request.threads.map(u64::from)),
        ("kv-cache-bytes", plan.decision.kv_cache_bytes),
    ] {
        if let Some(value) = value {
            option(name, value.to_string());
        }
    }
    argv.extend(plan.program.launch.arguments.iter().cloned());
    argv
}
