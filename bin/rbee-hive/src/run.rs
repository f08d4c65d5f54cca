use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use daemon_shell::{Encryption, FileLock, ProcessIdentity, Token};
use device_probe::{MockProbe, Probe, SystemProbe};
use diagnostics::Diagnostic;
use engine_catalog::EngineCatalog;
use file_transfer::{Downloader, Secret, TransferSettings};
use hive_jobs::{JobRegistry, NodeEvents};
use hive_join::{Incoming, Uplink};
use input_validation::{Backend, CertificateFingerprint, ModelAlias, ModelRef};
use jiff::Timestamp;
use model_catalog::{Copies, ModelCatalog, Puller};
use model_vendors::{EngineCheck, Selection, VendorSettings, other_nodes, vendors};
use preflight_validation::check_runnable;
use state_files::{DaemonRecord, Home, home_in_use};
use tokio_util::sync::CancellationToken;
use worker_catalog::{Catalog, CatalogKey, Location};
use worker_lifecycle::{LifecycleSettings, StartLimits, StopLimits, Workers};
use worker_provisioning::{
    BuildProfile, ProvisionSettings, Provisioner, REPLACED, Surroundings, toolchains,
};

use crate::{
    Args, Command,
    membership::{Membership, leave, stay_connected, use_invitation},
    paths::absolute,
    service::{Hive, router},
    suspend::SuspendCommand,
};

/// Time that open connections have to close during shutdown.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// Public key of the catalog of whoever built this hive. Without one, the user names the key.
const PINNED_KEY: Option<&str> = option_env!("RBEE_PINNED_CATALOG_KEY");

/// Serves until SIGTERM, SIGINT or `POST /v1/shutdown`. Workers keep running, unless the call
/// requests to stop them.
pub async fn run(args: Args) -> Result<(), Diagnostic> {
    let home = Home::open(args.home.clone())?;
    let record_file = home.hive_record();
    let Some(_lock) = FileLock::try_acquire(&home.hive_lock())? else {
        return Err(home_in_use("hive", &home, &record_file));
    };
    // A home of a newer rbee is rejected before anything in it changes.
    DaemonRecord::read(&record_file)?;
    match &args.command {
        Some(Command::Leave) => return leave(&home),
        Some(Command::Join(join)) => use_invitation(&home, join, &args).await?,
        None => {}
    }
    let uplink = if args.token_file.is_some() {
        None
    } else {
        Uplink::open(&home).await?
    };
    let Membership {
        node,
        token,
        token_file,
    } = Membership::of(&home, &args, uplink.as_ref())?;
    let suspend = SuspendCommand::parse(&args.suspend_command)?;
    let worker_dir = match &args.worker_dir {
        Some(dir) => absolute(dir)?,
        None => own_directory()?,
    };
    let probe: Arc<dyn Probe> = match &args.mock_devices {
        Some(file) => Arc::new(MockProbe::load(file)?),
        None => Arc::new(SystemProbe::new(home.models())),
    };
    let (dirs, database) = (home.model_dirs(), home.model_database());
    let catalog = Arc::new(ModelCatalog::open(dirs, database, aliases()?)?);
    let transfers = TransferSettings {
        bytes_per_second: args.download_rate,
        stall: Duration::from_secs(args.download_stall.into()),
        reserve_bytes: args.disk_reserve,
        ..TransferSettings::default()
    };
    let node_events = NodeEvents::default();
    let jobs = Arc::new(JobRegistry::new(node_events.clone()));
    let provision = provision_settings(&args, &home, worker_dir, transfers.clone())?;
    let provision = ProvisionSettings {
        compute_capability: compute_capability(&*probe),
        ..provision
    };
    let binaries = Arc::new(Provisioner::open(provision, Arc::clone(&jobs))?);
    let engines = EngineCatalog::new(home.engines());
    let selection = selection(&*probe, engines.clone(), Arc::clone(&binaries))?;
    let puller = Arc::new(puller(&catalog, selection, transfers, &token)?);
    let workers = Workers::open(
        LifecycleSettings {
            hive_id: node.clone(),
            runs: home.worker_dirs(),
            binaries: Arc::clone(&binaries),
            engines: engines.clone(),
            ports: args.worker_ports,
            token: token.clone(),
            token_file,
            start_limits: StartLimits::default(),
            stop_limits: StopLimits::default(),
        },
        Arc::clone(&catalog),
        Arc::clone(&probe),
        node_events.reporter(),
    )?;
    let listener = daemon_shell::bind(SocketAddr::new(args.bind, args.port)).await?;
    let address = daemon_shell::local_address(&listener)?;
    let url = daemon_shell::local_url(address);
    let stop = CancellationToken::new();
    let hive = Arc::new(Hive {
        address: daemon_shell::local_socket(address),
        incoming: Incoming::new(home.clone(), node.clone()),
        id: node,
        workers,
        catalog,
        puller,
        probe,
        binaries,
        engines,
        jobs,
        node_events,
        suspend,
        stop: stop.clone(),
    });
    let tls = if args.bind.is_loopback() {
        None
    } else {
        let identity = daemon_shell::tls_identity(&home.hive_certificate())?;
        let certificate = CertificateFingerprint::of_digest(identity.fingerprint());
        tracing::info!(%address, %certificate, "other machines can connect");
        Some(identity.server_config()?)
    };
    let record = DaemonRecord {
        process: ProcessIdentity::own(),
        url: url.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api_version: hive_contract::API_VERSION,
        started_at: Timestamp::now(),
    };
    record.write(&record_file)?;
    tracing::info!(url, token = token.fingerprint(), "serving");

    tokio::spawn({
        let stop = stop.clone();
        async move {
            let signal = daemon_shell::termination().await;
            tracing::info!("{signal}: shutting down, workers keep running");
            stop.cancel();
        }
    });
    let (router, stopped) = (router(Arc::clone(&hive), token), stop.clone());
    let serving = async {
        match tls {
            Some(tls) => {
                let encrypted = Encryption {
                    tls,
                    required_of_others: !args.allow_unencrypted,
                };
                daemon_shell::serve_with_tls(listener, encrypted, router, stopped).await;
            }
            None => daemon_shell::serve(listener, router, stopped).await,
        }
    };
    let served = tokio::select! {
        () = serving => Ok(()),
        () = async { stop.cancelled().await; tokio::time::sleep(CLOSE_LIMIT).await } => Ok(()),
        () = record.keep(&record_file) => Ok(()),
        refused = stay_connected(uplink, hive) => Err(refused),
    };
    DaemonRecord::remove_own(&record_file);
    served
}

/// Where worker binaries are from.
/// The compute capability of the first GPU that has one.
fn compute_capability(probe: &dyn Probe) -> Option<String> {
    let mut devices = probe.machine().ok()?.devices.into_iter();
    devices.find_map(|device| device.compute_capability)
}

fn provision_settings(
    args: &Args,
    home: &Home,
    release_dir: PathBuf,
    transfers: TransferSettings,
) -> Result<ProvisionSettings, Diagnostic> {
    let defaults = ProvisionSettings::new(home.clone(), release_dir, env!("CARGO_PKG_VERSION"));
    // The variables of NVIDIA's own tools and of CMake.
    let cuda = ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .find_map(std::env::var_os);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let user = std::env::home_dir();
    let around = Surroundings {
        path: &path,
        home: user.as_deref(),
        state: home.path(),
        replaced: &REPLACED,
        variable: |name| std::env::var_os(name),
    };
    Ok(ProvisionSettings {
        packages: package_catalog(args, home)?,
        toolchains: toolchains(&args.toolchains, around)?,
        repository: args.worker_repository.clone(),
        branch: args.worker_branch.clone(),
        profile: match args.worker_profile.as_str() {
            "dev" => BuildProfile::Dev,
            _ => BuildProfile::Release,
        },
        download_key: args.worker_key.clone(),
        path,
        transfers,
        cuda: cuda.map_or(defaults.cuda.clone(), PathBuf::from),
        ..defaults
    })
}

/// The catalog of packages, if there is one. Its key is that of the user, else that of the build.
fn package_catalog(args: &Args, home: &Home) -> Result<Option<Arc<Catalog>>, Diagnostic> {
    let Some(url) = &args.catalog else {
        return Ok(None);
    };
    let location = Location::parse(url)?;
    let key = match (&args.catalog_key, PINNED_KEY) {
        (Some(named), _) => CatalogKey::named(named)?,
        (None, Some(pinned)) => CatalogKey::parse(pinned)?,
        (None, None) => return Err(CatalogKey::missing(&location)),
    };
    let catalog = Catalog::open(location, key, &home.package_catalogs())?;
    Ok(Some(Arc::new(catalog)))
}

/// Selects models that fit into the largest device of the machine, and that its engines run.
fn selection(
    probe: &dyn Probe,
    engines: EngineCatalog,
    binaries: Arc<Provisioner>,
) -> Result<Selection, Diagnostic> {
    let runtime = tokio::runtime::Handle::current();
    let devices = probe.machine()?.devices;
    let mut backends: Vec<Backend> = devices.iter().map(|device| device.backend).collect();
    backends.dedup();
    Ok(Selection {
        memory_bytes: devices.iter().map(|d| d.memory_total_bytes).max(),
        engines: EngineCheck::new(move |header| {
            let mut engines = engines.engines(&binaries.catalog().packages()?);
            let own = check_runnable(header, &engines.for_choice(), &backends);
            if own.is_ok() {
                return own;
            }
            // Headers are checked on a thread that may block.
            engines.add_offers(runtime.block_on(binaries.offers())?);
            check_runnable(header, &engines.for_choice(), &backends)
        }),
    })
}

fn puller(
    catalog: &Arc<ModelCatalog>,
    selection: Selection,
    transfers: TransferSettings,
    token: &Token,
) -> Result<Puller, Diagnostic> {
    let copies = copies(token, &transfers)?;
    let downloader = Downloader::new(transfers)?;
    let vendors = vendors(&vendor_settings())?;
    let catalog = Arc::clone(catalog);
    Ok(Puller::new(
        catalog,
        vendors,
        Arc::new(downloader),
        Some(copies),
        selection,
    ))
}

/// Copies models from other nodes, through the queen that has this node's token.
fn copies(token: &Token, transfers: &TransferSettings) -> Result<Copies, Diagnostic> {
    let token = Secret::new(token.expose());
    let downloader = Downloader::new(TransferSettings {
        // Requests contain the node's token.
        proxies: false,
        stall: transfers.stall,
        reserve_bytes: transfers.reserve_bytes,
        ..TransferSettings::default()
    })?;
    Ok(Copies {
        other_nodes: Box::new(move |queen_url| other_nodes(queen_url, token.clone())),
        fetch: Arc::new(downloader),
    })
}

/// Endpoints and credentials, from the variables that the vendors' own tools use.
fn vendor_settings() -> VendorSettings {
    VendorSettings::from_env(
        |name| std::env::var(name).ok(),
        |file| std::fs::read_to_string(file).ok(),
    )
}

/// The aliases that are part of rbee.
fn aliases() -> Result<Vec<(ModelAlias, ModelRef)>, Diagnostic> {
    input_validation::shipped_aliases()
        .iter()
        .map(|(alias, model)| Ok((alias.parse()?, model.parse()?)))
        .collect()
}

fn own_directory() -> Result<PathBuf, Diagnostic> {
    let binary = daemon_shell::own_binary()?;
    Ok(binary.parent().unwrap_or(Path::new("/")).to_owned())
}
