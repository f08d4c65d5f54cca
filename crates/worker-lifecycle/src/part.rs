//! Parts of models that are split over machines: processes that compute layers for a worker on
//! another machine. They are recorded and stopped as workers are.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc, thread, time::Duration};

use daemon_shell::{Signal, blocking};
use diagnostics::Diagnostic;
use engine_catalog::{Engine, MachineEngines, PartLaunch};
use hive_contract::{EngineDecision, SpawnRequest, SpawnResponse};
use hive_jobs::JobContext;
use input_validation::{Backend, DeviceId, WorkerId};
use jiff::Timestamp;
use preflight_validation::WorkerMemory;
use state_files::SpawnRecord;
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    errors, exit::Exit, process::WorkerProcess, reservations::Reservation, spawn::Spawner,
};

/// Time from the start of a part until it accepts connections.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Interval at which a starting part is tried.
const POLL_EVERY: Duration = Duration::from_millis(50);
/// Number of log lines in an error.
const LOG_LINES: usize = 4;

/// A part whose engine exists and whose memory is reserved.
struct Plan {
    request: SpawnRequest,
    of: WorkerId,
    engine: Engine,
    backend: Backend,
    reservation: Reservation,
}

impl Spawner {
    /// Starts the part of `request` for the worker `of`. Returns when it accepts connections.
    ///
    /// Errors: `NOT_FOUND` without an engine for parts; `INSUFFICIENT_RAM`, `INSUFFICIENT_VRAM`;
    /// `WORKER_EXISTS`, `FENCED`, `WORKER_START_FAILED`.
    pub(crate) async fn spawn_part(
        &self,
        request: SpawnRequest,
        (of, memory_bytes): (WorkerId, u64),
        context: &JobContext,
    ) -> Result<SpawnResponse, Diagnostic> {
        let (id, generation) = (request.worker_id.clone(), request.generation);
        let plan = self.plan_part(request, of, memory_bytes).await?;
        let lock = self.id_locks.of(&id);
        let _held = lock.lock().await;
        let earlier = self.make_way(&plan.request, &context.reporter).await?;
        let (lease, _) = self.ports.lease(&BTreeSet::new())?;
        let port = lease.port;
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let launch = plan
            .engine
            .launch_part(plan.request.device, plan.backend, port, threads);
        let PartLaunch {
            command,
            environment,
        } = launch.ok_or_else(|| errors::no_part_engine(plan.backend))?;
        let program = command.first().cloned().unwrap_or_default();
        let message = format!(
            "starting {id}, a part of {}, port {port}",
            plan.request.model
        );
        context.reporter.info("spawn", message);
        let record = SpawnRecord {
            worker_id: id.clone(),
            generation,
            model: plan.request.model.clone(),
            device: plan.request.device,
            port,
            argv: command,
            process: None,
            started_at: Timestamp::now(),
            engine: Some(EngineDecision {
                engine: plan.engine.declaration.name.clone(),
                reason: format!("it computes a part of the model for worker {}", plan.of),
                candidates: Vec::new(),
            }),
            restarts: earlier.restarts,
            stop_cause: None,
            ended_at: None,
            last_exit: earlier.last_exit,
            part_of: Some(plan.of.clone()),
        };
        let host = &self.host;
        let mut process =
            WorkerProcess::start(host, program.as_ref(), &environment, record).await?;
        let cancelled = context.cancel.cancelled();
        let started = tokio::select! {
            started = accepts(&mut process, port) => started,
            () = cancelled => Err(Failure::Cancelled),
        };
        if let Err(failure) = started {
            if let Some(running) = process.record.process {
                running.signal_group(Signal::Kill)?;
            }
            host.exits.recorded(&id).await;
            let log = host.runs.log(&id);
            let log = blocking(move || Ok(log.tail(LOG_LINES).unwrap_or_default())).await?;
            return Err(match failure {
                Failure::Cancelled => errors::spawn_cancelled(&id),
                Failure::Silent => errors::part_is_silent(&id, START_LIMIT, log),
                Failure::Exited(exit) => errors::exited_during_startup(&id, exit, None, log),
            });
        }
        let response = SpawnResponse {
            worker_id: id,
            pid: process.record.process.map_or(0, |process| process.pid),
            port,
            generation,
        };
        keep_reserved(process, plan.reservation);
        Ok(response)
    }

    /// Finds the engine, and reserves the memory if it is free.
    async fn plan_part(
        &self,
        request: SpawnRequest,
        of: WorkerId,
        memory_bytes: u64,
    ) -> Result<Plan, Diagnostic> {
        let freed = self.freed(&request).await?;
        let _turn = self.memory_checks.lock().await;
        let (reservations, probe) = (Arc::clone(&self.reservations), Arc::clone(&self.probe));
        let settings = &self.host.settings;
        let (binaries, engines) = (Arc::clone(&settings.binaries), settings.engines.clone());
        blocking(move || {
            let engines: MachineEngines = engines.engines(&binaries.catalog().packages()?);
            let machine = probe.machine()?;
            let machine = machine.with_programs(binaries.available(), engines.entries());
            let machine = reservations.without_reserved(machine);
            let device = machine.devices.iter().find(|own| own.id == request.device);
            let device = device.ok_or_else(|| errors::no_device(request.device))?;
            let backend = device.backend;
            let engine = engines.find_part(backend).cloned();
            let engine = engine.ok_or_else(|| errors::no_part_engine(backend))?;
            let (memory, free) = match request.device {
                DeviceId::Cpu(_) => (
                    WorkerMemory {
                        ram_bytes: memory_bytes,
                        gpu_bytes: 0,
                    },
                    machine.ram.available_bytes.saturating_add(freed.ram_bytes),
                ),
                DeviceId::Gpu(_) => (
                    WorkerMemory {
                        ram_bytes: 0,
                        gpu_bytes: memory_bytes,
                    },
                    device.memory_free_bytes,
                ),
            };
            let is_freed = freed.device == Some(request.device);
            if free < memory_bytes && !(is_freed && memory.gpu_bytes > 0) {
                return Err(errors::too_little_for_part(device, memory_bytes, free));
            }
            let reservation = reservations.add(request.device, memory);
            Ok(Plan {
                request,
                of,
                engine,
                backend,
                reservation,
            })
        })
        .await
    }
}

/// Why a part did not start.
enum Failure {
    Cancelled,
    Silent,
    Exited(Exit),
}

/// Waits until a part accepts connections.
async fn accepts(process: &mut WorkerProcess, port: u16) -> Result<(), Failure> {
    let connects = async {
        let mut poll = interval(POLL_EVERY);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            poll.tick().await;
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .is_ok()
            {
                return;
            }
        }
    };
    let exited = process.exit.wait_for(Option::is_some);
    tokio::select! {
        biased;
        exit = exited => {
            let exit = exit.ok().and_then(|exit| *exit).unwrap_or(Exit::Unknown);
            Err(Failure::Exited(exit))
        }
        connected = timeout(START_LIMIT, connects) => {
            connected.map_err(|_| Failure::Silent)
        }
    }
}

/// Its memory is allocated when the worker loads the model, some time after its start. In main
/// memory, what is allocated is not reserved any more; of a GPU that is not known.
fn keep_reserved(mut process: WorkerProcess, reservation: Reservation) {
    if let (Some(running), DeviceId::Cpu(_)) = (process.record.process, process.record.device) {
        reservation.started(running);
        tokio::spawn(async move {
            let _reservation = reservation;
            let _ = process.exit.wait_for(Option::is_some).await;
        });
    }
}
