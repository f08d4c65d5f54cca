use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use daemon_shell::{FileLock, ProcessIdentity, Token};
use diagnostics::{Code, Diagnostic};
use hive_lifecycle::{HiveState, LocalHive, Supervisor};
use input_validation::NodeName;
use jiff::Timestamp;
use queen_contract::ShutdownRequest;
use queen_store::Store;
use scheduler::{Event, Scheduler, Settings};
use state_files::{DaemonRecord, Home, home_in_use};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Args,
    app::{App, LocalNode},
    clock::Clock,
    dispatcher::Dispatcher,
    ending,
    groups::Groups,
    guard,
    metrics::Metrics,
    models::Models,
    nodes,
    service::{Keys, router, speak},
    spawner::Spawner,
    store::StoreHandle,
};

/// The hive is waited for this long before the queen says that it is there.
const HIVE_WITHIN: Duration = Duration::from_secs(12);
/// How long open connections are waited for at the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves until SIGTERM, SIGINT or `POST /v1/shutdown`.
pub async fn run(args: Args) -> Result<(), Diagnostic> {
    let api_key = match &args.api_key_file {
        Some(file) => Some(Arc::new(Token::load(file)?)),
        None => None,
    };
    if api_key.is_none() && !args.bind.is_loopback() {
        return Err(Diagnostic::new(
            Code::InsecureBind,
            format!("{} is open to other machines and no key is set", args.bind),
        )
        .hint("name a file with a key: `--api-key-file FILE`, or stay on 127.0.0.1"));
    }
    let admitted = guard::admitted(&args.cors_origin)?;
    let home = Home::open(args.home.clone())?;
    let record_file = home.queen_record();
    let Some(_lock) = FileLock::try_acquire(&home.queen_lock())? else {
        return Err(home_in_use("queen", &home, &record_file));
    };
    // A home of a newer rbee is refused before anything in it changes.
    DaemonRecord::read(&record_file)?;
    let keys = Keys {
        api: api_key,
        control: Arc::new(Token::load_or_create(&home.queen_token())?),
        node: Arc::new(Token::load_or_create(&home.node_token(&NodeName::local()))?),
    };
    let store_home = home.clone();
    let store = tokio::task::spawn_blocking(move || Store::open(&store_home))
        .await
        .map_err(Diagnostic::internal)??;
    let store = StoreHandle::new(store);
    let (listener, url) = listen(&args, &store).await?;
    let app = assemble(&args, &home, store, &url, &keys).await?;

    let mut service = guard::cors(router(&app, &keys), args.cors_origin.clone());
    if args.bind.is_loopback() {
        service = daemon_shell::loopback_only(service, admitted);
    }
    let service = speak(service);
    let serving = tokio::spawn(daemon_shell::serve(listener, service, app.stop.clone()));
    tokio::spawn(end_on_signal(Arc::clone(&app)));
    app.stop.run_until_cancelled(wait_for_hive(&app)).await;
    let record = DaemonRecord {
        process: ProcessIdentity::own(),
        url: url.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api_version: queen_contract::API_VERSION,
        started_at: app.started_at,
    };
    record.write(&record_file)?;
    tracing::info!(
        url,
        control = keys.control.fingerprint(),
        "the queen serves"
    );

    let served = tokio::select! {
        served = serving => served.map_err(Diagnostic::internal),
        () = async { app.stop.cancelled().await; sleep(FAREWELL).await } => Ok(()),
        () = record.keep(&record_file) => Ok(()),
        // A queen without it could only refuse; whoever watches over the process starts another.
        () = app.dispatcher.gone() => Err(Diagnostic::internal("the dispatcher broke")),
    };
    DaemonRecord::remove_own(&record_file);
    served
}

/// Listens where it is told to. On any free port, that of the last run comes first, so that
/// workers that outlived the queen find it again.
async fn listen(args: &Args, store: &StoreHandle) -> Result<(TcpListener, String), Diagnostic> {
    let last = store.call(|store| store.last_port()).await?;
    let mut bound = None;
    if let (0, Some(last)) = (args.port, last) {
        bound = daemon_shell::bind(SocketAddr::new(args.bind, last))
            .await
            .ok();
    }
    let listener = match bound {
        Some(listener) => listener,
        None => daemon_shell::bind(SocketAddr::new(args.bind, args.port)).await?,
    };
    let addr = listener
        .local_addr()
        .map_err(|e| Diagnostic::internal(format!("own address: {e}")))?;
    store
        .call(move |store| store.set_last_port(addr.port()))
        .await?;
    Ok((listener, format!("http://{}", reachable(addr))))
}

async fn assemble(
    args: &Args,
    home: &Home,
    store: StoreHandle,
    url: &str,
    keys: &Keys,
) -> Result<Arc<App>, Diagnostic> {
    let home_node = NodeName::local();
    let clock = Clock::start();
    let scheduler = remembered(&store, Settings::new(home_node.clone()), clock).await?;
    let hive = if args.no_local_hive {
        None
    } else {
        let supervisor = Supervisor::start(LocalHive {
            program: hive_program(args)?,
            home: home.clone(),
            port: args.hive_port,
            worker_ports: args.worker_ports.clone(),
            log: args.log.clone(),
        });
        let state = supervisor.state();
        tokio::spawn(nodes::keep(home_node.clone(), state.clone(), store.clone()));
        Some(LocalNode { supervisor, state })
    };
    let hive_state = hive.as_ref().map(|node| node.state.clone());
    let dispatcher = Dispatcher::start(scheduler, clock, |dispatcher| {
        Arc::new(Spawner {
            hive: hive_state.clone(),
            store: store.clone(),
            queen_url: url.to_owned(),
            dispatcher,
        })
    });
    Ok(Arc::new(App {
        home_node,
        clock,
        started_at: Timestamp::now(),
        dispatcher,
        groups: Groups::default(),
        store,
        models: Models::new(hive_state),
        hive,
        node_token: Arc::clone(&keys.node),
        worker_silence: Duration::from_secs(args.worker_silence.into()),
        http: rest_client::http_client()?,
        metrics: Metrics::new(),
        ending: AtomicBool::new(false),
        stop: CancellationToken::new(),
    }))
}

/// A scheduler that lets no worker serve that was stopped or superseded in an earlier run.
async fn remembered(
    store: &StoreHandle,
    settings: Settings,
    clock: Clock,
) -> Result<Scheduler, Diagnostic> {
    let (fences, deployments) = store
        .call(|store| Ok((store.fences()?, store.deployments()?)))
        .await?;
    let mut scheduler = Scheduler::new(settings);
    let superseded = deployments
        .into_iter()
        .map(|row| (row.worker_id, row.generation));
    for (worker, lowest) in fences.into_iter().chain(superseded) {
        scheduler.handle(Event::Fence(worker, lowest), clock.now());
    }
    Ok(scheduler)
}

async fn wait_for_hive(app: &App) {
    if let Some(node) = &app.hive {
        let mut state = node.state.clone();
        let settled = state.wait_for(|state| !matches!(state, HiveState::Starting));
        let _ = timeout(HIVE_WITHIN, settled).await;
        app.models.list().await;
    }
}

async fn end_on_signal(app: Arc<App>) {
    let signal = daemon_shell::termination().await;
    tracing::info!("{signal}: finishing what runs; hive and workers go on");
    let ended = ending::end(Arc::clone(&app), ShutdownRequest::default());
    tokio::select! {
        ended = ended => if let Err(error) = ended {
            tracing::info!(%error, "already ending");
        },
        again = daemon_shell::termination() => {
            tracing::warn!("{again} again: ending at once");
            app.stop.cancel();
        }
    }
}

fn hive_program(args: &Args) -> Result<PathBuf, Diagnostic> {
    if let Some(program) = &args.hive_binary {
        return Ok(program.clone());
    }
    let own = std::env::current_exe()
        .map_err(|e| Diagnostic::internal(format!("own executable: {e}")))?;
    Ok(own.with_file_name("rbee-hive"))
}

/// The address under which programs of this machine reach a listener.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}
