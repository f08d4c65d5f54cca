use std::{
    collections::BTreeSet, net::IpAddr, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc,
    time::Duration,
};

use daemon_shell::{Encryption, FileLock, ProcessIdentity, Token, serve_with_tls};
use diagnostics::{Code, Diagnostic};
use futures_util::future::join_all;
use hive_lifecycle::{HiveHost, LocalHive};
use input_validation::{CertificateFingerprint, NodeName};
use jiff::Timestamp;
use node_link::LocalLink;
use queen_api::{Api, ApiConfig, CorsOrigins, QueenReach};
use queen_contract::{NodeSpec, ShutdownRequest};
use queen_dispatch::{Clock, Dispatcher, PolicyFile};
use queen_nodes::{NodeConfig, NodeLimits, Nodes, QueenState, Shutdown};
use request_relay::Relay;
use scheduler::{Scheduler, SchedulerEvent, SchedulerSettings};
use state_files::{DaemonRecord, Home, home_in_use};
use tokio::time::sleep;
use worker_contract::HEARTBEAT_SECONDS;

use crate::{
    Args,
    connector::Connector,
    listen::{Listeners, listen},
    ssh_nodes::SshNodes,
    tunnel_nodes::TunnelNodes,
};

/// How long the queen waits for its hives before it announces itself.
const HIVE_LIMIT: Duration = Duration::from_secs(12);
/// How long the queen waits for open connections before it exits.
const CONNECTION_LIMIT: Duration = Duration::from_secs(5);

/// Serves until SIGTERM, SIGINT or `POST /v1/shutdown`.
pub async fn run(args: Args) -> Result<(), Diagnostic> {
    let api_key = match &args.api_key_file {
        Some(file) => {
            if let Some(warning) = key_file_exposed(file) {
                tracing::warn!(hint = warning.hint, "{}", warning.message);
            }
            Some(Arc::new(Token::load(file)?))
        }
        None => None,
    };
    if api_key.is_none() && !args.bind_address().is_loopback() {
        return Err(insecure_bind(args.bind_address()));
    }
    let cors_origins = CorsOrigins::parse(args.cors_origin.clone())?;
    let home = Home::open(args.home.clone())?;
    let record_file = home.queen_record();
    let Some(_lock) = FileLock::try_acquire(&home.queen_lock())? else {
        return Err(home_in_use("queen", &home, &record_file));
    };
    // A home of a newer rbee is refused before anything in it changes.
    DaemonRecord::read(&record_file)?;
    let control_token = Arc::new(Token::load_or_create(&home.queen_token())?);
    let state = QueenState::open(&home).await?;
    let certificate = daemon_shell::tls_identity(&home.queen_certificate())?;
    let encryption = Encryption {
        tls: certificate.server_config()?,
        // Its clients are programs that often cannot be given a certificate.
        required_of_others: false,
    };
    let listening = listen(&args, &state).await?;
    let reach = QueenReach {
        certificate: CertificateFingerprint::of_digest(certificate.fingerprint()),
        urls: listening.urls_for_others(),
    };
    let Listeners { bound, url, .. } = listening;
    let started_at = Timestamp::now();
    let queen = Queen::assemble(&args, &home, state, &url, reach, started_at).await?;

    let config = ApiConfig {
        api_key,
        control_token: Arc::clone(&control_token),
        cors_origins,
        loopback_only: args.bind_address().is_loopback(),
    };
    let router = queen_api::router(&queen.api, config);
    let shut_down = queen.shutdown.completed();
    let serving = bound.into_iter().map(|listener| {
        serve_with_tls(
            listener,
            encryption.clone(),
            router.clone(),
            shut_down.clone(),
        )
    });
    let serving = tokio::spawn(join_all(serving));
    tokio::spawn(shut_down_on_signal(Arc::clone(&queen.shutdown)));
    let settled = async {
        queen.nodes.settled(HIVE_LIMIT).await;
        // Short model names work from the first request on.
        queen.nodes.models().await;
    };
    shut_down.run_until_cancelled(settled).await;
    let record = DaemonRecord {
        process: ProcessIdentity::own(),
        url: url.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api_version: queen_contract::API_VERSION,
        started_at,
    };
    record.write(&record_file)?;
    let control = control_token.fingerprint();
    tracing::info!(url, control, "the queen is ready");

    let served = tokio::select! {
        served = serving => served.map(drop).map_err(Diagnostic::internal),
        () = async { shut_down.cancelled().await; sleep(CONNECTION_LIMIT).await } => Ok(()),
        () = record.keep(&record_file) => Ok(()),
        // A queen without a dispatcher can only refuse requests, so its supervisor must
        // restart it.
        () = queen.dispatcher.stopped() => {
            Err(Diagnostic::internal("the dispatcher stopped unexpectedly"))
        }
    };
    DaemonRecord::remove_own(&record_file);
    served
}

/// The parts of a queen.
struct Queen {
    api: Arc<Api>,
    dispatcher: Dispatcher,
    nodes: Nodes,
    shutdown: Arc<Shutdown>,
}

impl Queen {
    async fn assemble(
        args: &Args,
        home: &Home,
        state: QueenState,
        url: &str,
        reach: QueenReach,
        started_at: Timestamp,
    ) -> Result<Self, Diagnostic> {
        let clock = Clock::start();
        let fences = state.fences().await?;
        // Workers that outlived the previous queen register by then.
        let register_limit = Duration::from_secs(2 * HEARTBEAT_SECONDS + 1);
        let settle = if fences.is_empty() {
            Duration::ZERO
        } else {
            register_limit
        };
        let mut scheduler = Scheduler::new(SchedulerSettings {
            settle,
            queue_limit: args.queue_limit as usize,
            memory_wait: Duration::from_secs(args.memory_wait.into()),
            ..SchedulerSettings::default()
        });
        for (worker, lowest) in fences {
            scheduler.handle(SchedulerEvent::Fence(worker, lowest), clock.now());
        }
        let ssh = SshNodes::new(args, home, url)?;
        let connector = Connector {
            http: rest_client::http_client()?,
            queen_url: url.to_owned(),
            tunnels: TunnelNodes::new(ssh.sockets().to_owned(), url),
            ssh,
        };
        let limits = NodeLimits {
            wake: Duration::from_secs(args.wake_limit.into()),
            ..NodeLimits::default()
        };
        let nodes = Nodes::new(state, Arc::new(connector), limits);
        if args.auto_pull {
            nodes.allow_auto_pull();
        }
        nodes.add(local_node(args, home, url)?).await?;
        nodes.open_registered().await?;
        let dispatcher = Dispatcher::start(scheduler, clock, Arc::new(nodes.clone()));
        // Before the first decision.
        let path = args.policy.clone().unwrap_or_else(|| home.policy());
        let policy = PolicyFile::watch(path, args.policy.is_some(), dispatcher.clone()).await;
        nodes
            .publish_deployments(BTreeSet::new(), &dispatcher)
            .await?;
        nodes.report_to(dispatcher.clone()).await;
        nodes.watch_splits(dispatcher.clone());
        nodes.watch_sleep(dispatcher.clone());
        let silence = Duration::from_secs(args.worker_silence.into());
        let relay = Relay::new(dispatcher.clone(), Arc::new(nodes.clone()), silence);
        let shutdown = Arc::new(Shutdown::new(nodes.clone(), dispatcher.clone()));
        let api = Api::new(
            dispatcher.clone(),
            relay,
            nodes.clone(),
            Arc::clone(&shutdown),
            reach,
            policy,
            started_at,
        );
        let api = api.with_header_grace(Duration::from_millis(args.header_grace_ms));
        Ok(Self {
            api: Arc::new(api),
            dispatcher,
            nodes,
            shutdown,
        })
    }
}

/// The queen's own machine.
fn local_node(args: &Args, home: &Home, url: &str) -> Result<NodeConfig, Diagnostic> {
    let name = NodeName::local();
    let hive: Option<Arc<dyn HiveHost>> = if args.no_local_hive {
        None
    } else {
        Some(Arc::new(LocalHive {
            program: args.hive_program()?,
            home: home.clone(),
            port: args.hive_port,
            worker_ports: args.worker_ports,
            catalog: args.catalog()?,
            log: args.log.to_string(),
        }))
    };
    Ok(NodeConfig {
        link: Arc::new(LocalLink::new(rest_client::http_client()?, url.to_owned())),
        token: Arc::new(Token::load_or_create(&home.node_token(&name))?),
        hive,
        spec: NodeSpec::Local,
        name,
    })
}

async fn shut_down_on_signal(shutdown: Arc<Shutdown>) {
    let signal = daemon_shell::termination().await;
    tracing::info!("{signal}: finishing running requests; hives and workers keep running");
    tokio::select! {
        result = shutdown.run(ShutdownRequest::default()) => if let Err(error) = result {
            tracing::info!(%error, "nothing to do");
        },
        again = daemon_shell::termination() => {
            tracing::warn!("{again} again: exiting immediately");
            shutdown.completed().cancel();
        }
    }
}

fn insecure_bind(address: IpAddr) -> Diagnostic {
    Diagnostic::new(
        Code::InsecureBind,
        format!("other machines can reach {address}, and no API key is set"),
    )
    .hint("set a key with `--api-key-file FILE`, or bind to 127.0.0.1")
}

/// Returns a warning if every user of this machine can read the key. It is no error, because
/// files that an orchestrator mounts have the mode that it chooses.
fn key_file_exposed(file: &Path) -> Option<Diagnostic> {
    const READ_BY_OTHERS: u32 = 0o004;
    let mode = file.metadata().ok()?.permissions().mode();
    let file = file.display().to_string();
    (mode & READ_BY_OTHERS != 0).then(|| {
        Diagnostic::new(
            Code::ConfigInvalid,
            format!("every user of this machine can read the API key in {file}"),
        )
        .hint(format!("run `chmod 600 {file}`"))
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[test]
    fn a_key_that_other_users_can_read_is_reported_with_the_command() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        fs::write(&file, "0123456789abcdef").unwrap();
        for (mode, exposed) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let warning = key_file_exposed(&file);
            assert_eq!(warning.is_some(), exposed, "{mode:o}");
            if let Some(warning) = warning {
                let command = format!("run `chmod 600 {}`", file.display());
                assert_eq!(warning.hint, Some(command));
            }
        }
        assert!(key_file_exposed(&dir.path().join("absent")).is_none());
    }
}
