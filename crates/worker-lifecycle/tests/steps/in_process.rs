use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bdd::World;
use cucumber::{given, then, when};
use daemon_shell::Token;
use diagnostics::Diagnostic;
use hive_contract::{SpawnRequest, SpawnResponse};
use hive_jobs::{JobContext, Reporter};
use input_validation::{DeviceId, Generation, NodeName};
use model_catalog::ModelCatalog;
use state_files::Home;
use worker_lifecycle::{
    LifecycleSettings, PortRange, StartLimits, StopLimits, SystemProbe, WorkerBinaries, Workers,
};

use super::{
    Seen,
    process::freeze,
    programs::{real_worker, write_program},
};

/// The crate in this process, with limits of the scenario's own.
#[derive(Default)]
struct Here {
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
    let settings = LifecycleSettings {
        hive_id: "local".parse().unwrap(),
        runs: home.worker_dirs(),
        binaries: WorkerBinaries::new(dir),
        ports: PortRange::Any,
        token: Token::load_or_create(&token_file).unwrap(),
        token_file,
        start_limits,
        stop_limits,
    };
    let catalog = Arc::new(ModelCatalog::new(home.models()));
    let probe = Arc::new(SystemProbe::new(home.models()));
    let workers = Workers::open(settings, catalog, probe, Reporter::discard()).unwrap();
    world.get::<Here>().workers = Some(workers);
}

#[given(regex = r"^workers that must show a sign of life every (\d+) s$")]
async fn short_start(world: &mut World, seconds: u64) {
    let limits = StartLimits {
        silence: Duration::from_secs(seconds),
        ..StartLimits::default()
    };
    open(world, limits, StopLimits::default()).await;
}

#[given(regex = r"^workers that get (\d+) s to drain and (\d+) s after SIGTERM$")]
async fn short_stop(world: &mut World, drain: u64, terminate: u64) {
    let limits = StopLimits {
        drain: Duration::from_secs(drain),
        terminate: Duration::from_secs(terminate),
        ..StopLimits::default()
    };
    open(world, StartLimits::default(), limits).await;
}

async fn spawn(world: &mut World, id: &str, model: &str) {
    let request = SpawnRequest {
        worker_id: id.parse().unwrap(),
        generation: Generation(1),
        model: model.parse().unwrap(),
        device: DeviceId::Cpu(0),
        queen_url: "http://127.0.0.1:1".to_owned(),
        context_length: None,
        slots: None,
        threads: None,
        wait_ready: true,
    };
    let workers = world.get::<Here>().workers.clone().unwrap();
    let context = JobContext::new(Reporter::discard());
    let spawned = workers.spawn(request, &context).await;
    world.get::<Here>().spawned = Some(spawned);
}

#[when(regex = r"^(\S+) is spawned here$")]
async fn spawn_any(world: &mut World, id: String) {
    spawn(world, &id, "mock:length=5").await;
}

#[when(regex = r"^(\S+) with `(.*)` is spawned here$")]
async fn spawn_with(world: &mut World, id: String, model: String) {
    spawn(world, &id, &model).await;
}

#[given(regex = r"^(\S+) with `(.*)` was spawned here$")]
async fn was_spawned(world: &mut World, id: String, model: String) {
    spawn(world, &id, &model).await;
    succeeds(world);
}

#[given(regex = r"^(\d+) workers were spawned here and frozen$")]
async fn many_frozen(world: &mut World, count: usize) {
    for n in 0..count {
        let id = format!("w-{n}");
        was_spawned(world, id.clone(), "mock:length=5".to_owned()).await;
        freeze(world, id);
    }
}

#[then("it succeeds")]
fn succeeds(world: &mut World) {
    let spawned = world.get::<Here>().spawned.take().expect("it was spawned");
    spawned.unwrap();
}

#[then(regex = r"^it fails with ([A-Z_]+)$")]
fn fails(world: &mut World, code: String) {
    let spawned = world
        .get::<Here>()
        .spawned
        .as_ref()
        .expect("it was spawned");
    let error = spawned.as_ref().unwrap_err();
    assert_eq!(error.code.as_str(), code, "{error}");
}

#[then(regex = r"^the failure tells `(.*)`$")]
fn failure_tells(world: &mut World, text: String) {
    let spawned = world
        .get::<Here>()
        .spawned
        .as_ref()
        .expect("it was spawned");
    let error = spawned.as_ref().unwrap_err();
    assert!(error.message.contains(&text), "{error}");
}

#[when(regex = r"^(\S+) is stopped here$")]
async fn stop(world: &mut World, id: String) {
    let workers = world.get::<Here>().workers.clone().unwrap();
    let begin = Instant::now();
    workers.stop(&id.parse().unwrap(), None).await.unwrap();
    world.get::<Seen>().took = begin.elapsed();
}

#[when("all workers are stopped here")]
async fn stop_all(world: &mut World) {
    let workers = world.get::<Here>().workers.clone().unwrap();
    let begin = Instant::now();
    workers.stop_all(None).await.unwrap();
    world.get::<Seen>().took = begin.elapsed();
}
