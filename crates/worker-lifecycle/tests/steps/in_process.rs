use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bdd::World;
use cucumber::{given, then, when};
use daemon_shell::Token;
use device_probe::SystemProbe;
use diagnostics::Diagnostic;
use engine_catalog::EngineCatalog;
use hive_contract::{SpawnRequest, SpawnResponse};
use hive_jobs::{JobContext, JobRegistry, NodeEvents, Reporter};
use input_validation::{DeviceId, Generation, NodeName, PortRange};
use model_catalog::ModelCatalog;
use state_files::Home;
use worker_lifecycle::{LifecycleSettings, StartLimits, StopLimits, Workers};
use worker_provisioning::{ProvisionSettings, Provisioner};

use super::{
    State,
    process::freeze,
    programs::{real_worker, write_program},
};

/// The crate in this process, with time limits of the scenario's own.
#[derive(Default)]
struct InProcess {
    workers: Option<Arc<Workers>>,
    spawned: Option<Result<SpawnResponse, Diagnostic>>,
}

async fn open(world: &mut World, start_limits: StartLimits, stop_limits: StopLimits) {
    let dir = world.dir().join("workers");
    if !dir.exists() {
        write_program(world, &real_worker()).await;
    }
    let home = Home::open(Some(world.home())).unwrap();
    let token_file = home.node_token(&NodeName::local());
    let provision = ProvisionSettings::new(home.clone(), dir, "0.1.0");
    let jobs = Arc::new(JobRegistry::new(NodeEvents::default()));
    let settings = LifecycleSettings {
        hive_id: NodeName::local(),
        runs: home.worker_dirs(),
        binaries: Arc::new(Provisioner::open(provision, jobs).unwrap()),
        engines: EngineCatalog::new(home.engines()),
        ports: PortRange::Any,
        token: Token::load_or_create(&token_file).unwrap(),
        token_file,
        start_limits,
        stop_limits,
    };
    let catalog = ModelCatalog::open(home.model_dirs(), home.model_database(), Vec::new()).unwrap();
    let catalog = Arc::new(catalog);
    let probe = Arc::new(SystemProbe::new(home.models()));
    let workers = Workers::open(settings, catalog, probe, Reporter::discard()).unwrap();
    world.get::<InProcess>().workers = Some(workers);
}

fn workers(world: &mut World) -> Arc<Workers> {
    let workers = world.get::<InProcess>().workers.clone();
    workers.expect("an in-process hive")
}

#[given(regex = r"^an in-process hive with a silence limit of (\d+) s$")]
async fn with_silence_limit(world: &mut World, seconds: u64) {
    let limits = StartLimits {
        silence: Duration::from_secs(seconds),
        ..StartLimits::default()
    };
    open(world, limits, StopLimits::default()).await;
}

#[given(regex = r"^an in-process hive with a drain of (\d+) s and SIGKILL (\d+) s after SIGTERM$")]
async fn with_stop_limits(world: &mut World, drain: u64, terminate: u64) {
    let limits = StopLimits {
        drain: Duration::from_secs(drain),
        terminate: Duration::from_secs(terminate),
        ..StopLimits::default()
    };
    open(world, StartLimits::default(), limits).await;
}

#[when(regex = r"^the in-process hive spawns (\S+)$")]
async fn spawn(world: &mut World, id: String) {
    spawn_model(world, id, "mock:length=5".to_owned()).await;
}

#[when(regex = r"^the in-process hive spawns (\S+) with `(.*)`$")]
async fn spawn_model(world: &mut World, id: String, model: String) {
    let request = SpawnRequest {
        worker_id: id.parse().unwrap(),
        generation: Generation(1),
        model: model.parse().unwrap(),
        device: DeviceId::Cpu(0),
        queen_url: "http://127.0.0.1:1".to_owned(),
        engine: None,
        context_length: None,
        slots: None,
        threads: None,
        wait_ready: true,
        split: None,
    };
    let context = JobContext::new(Reporter::discard());
    let spawned = workers(world).spawn(request, &context).await;
    world.get::<InProcess>().spawned = Some(spawned);
}

#[given(regex = r"^the in-process hive has spawned (\S+) with `(.*)`$")]
async fn has_spawned(world: &mut World, id: String, model: String) {
    spawn_model(world, id, model).await;
    succeeds(world);
}

#[given(regex = r"^the in-process hive has spawned (\d+) workers, and they are frozen$")]
async fn has_spawned_frozen(world: &mut World, count: usize) {
    for n in 0..count {
        let id = format!("w-{n}");
        has_spawned(world, id.clone(), "mock:length=5".to_owned()).await;
        freeze(world, id);
    }
}

fn spawned(world: &mut World) -> &Result<SpawnResponse, Diagnostic> {
    let spawned = world.get::<InProcess>().spawned.as_ref();
    spawned.expect("a worker was spawned")
}

#[then("the spawn succeeds")]
fn succeeds(world: &mut World) {
    let response = spawned(world).as_ref().unwrap();
    assert!(response.pid > 0, "{response:?}");
}

#[then(regex = r"^the spawn fails with ([A-Z_]+)$")]
fn fails(world: &mut World, code: String) {
    let error = spawned(world).as_ref().unwrap_err();
    assert_eq!(error.code.as_str(), code, "{error}");
}

#[then(regex = r"^the spawn's error contains `(.*)`$")]
fn error_contains(world: &mut World, text: String) {
    let error = spawned(world).as_ref().unwrap_err();
    assert!(error.message.contains(&text), "{error}");
}

#[when(regex = r"^the in-process hive stops (\S+-\d+)$")]
async fn stop(world: &mut World, id: String) {
    let workers = workers(world);
    let begin = Instant::now();
    workers
        .stop(&id.parse().unwrap(), None, None)
        .await
        .unwrap();
    world.get::<State>().took = begin.elapsed();
}

#[when("the in-process hive stops all workers")]
async fn stop_all(world: &mut World) {
    let workers = workers(world);
    let begin = Instant::now();
    workers.stop_all(None).await.unwrap();
    world.get::<State>().took = begin.elapsed();
}
