//! An SSH server with faults inside the protocol, which OpenSSH's sshd does not have. It accepts
//! the key of its client and runs commands, until a test chooses a [`Fault`].

mod raw;
mod session;

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};
use russh::server::Config;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
};

use session::Session;

/// What goes wrong, in new connections and commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The server accepts connections and sends nothing.
    NoBanner,
    /// The server sends this instead of its banner.
    Banner(Vec<u8>),
    /// The server sends lines before its banner without an end (RFC 4253, section 4.2).
    EndlessBanner,
    /// The server does not answer requests to authenticate.
    StalledAuthentication,
    /// Every command is refused, also the one that keeps the connection open.
    NoCommands,
    /// Commands are refused, except for the one that keeps the connection open.
    RefusedCommands,
    /// The channel of a command is closed without an exit status.
    NoExitStatus,
    /// The commands are not run; they print this and succeed.
    Output(Vec<u8>),
    /// The commands are not run; they print without an end.
    EndlessOutput,
    /// Commands are accepted and do nothing.
    StalledCommands,
    /// The connection ends when a command has received this many bytes.
    DroppedAfter(usize),
}

/// The server. It stops when it is dropped.
#[derive(Debug)]
pub struct FaultyServer {
    dir: TempDir,
    port: u16,
    shared: Arc<Shared>,
    /// Runs the connections.
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Shared {
    fault: Mutex<Fault>,
    /// Program that runs commands in the home directory of the test.
    session: PathBuf,
}

impl Shared {
    fn fault(&self) -> Fault {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FaultyServer {
    /// Starts the server.
    pub fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("sshd-").tempdir()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        ssh_server::write_files(dir.path(), address, Path::new("/bin/sh"))?;
        let key = russh::keys::load_secret_key(dir.path().join("host_key"), None)?;
        let config = Arc::new(Config {
            keys: vec![key],
            ..Config::default()
        });
        let shared = Arc::new(Shared {
            fault: Mutex::default(),
            session: dir.path().join("session"),
        });
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        listener.set_nonblocking(true)?;
        let accept = accept(listener, config, Arc::clone(&shared));
        runtime.spawn(accept);
        Ok(Self {
            dir,
            port: address.port(),
            shared,
            runtime: Some(runtime),
        })
    }

    /// Chooses what goes wrong from now on.
    pub fn set(&self, fault: Fault) {
        *self.shared.lock() = fault;
    }

    /// Port on `127.0.0.1`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `HOME` of the commands.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// Configuration of a client, as that of `ssh_server::SshServer`.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("ssh_config")
    }
}

impl Drop for FaultyServer {
    fn drop(&mut self) {
        // Without waiting: a runtime that waits must not be dropped where tasks run.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, config: Arc<Config>, shared: Arc<Shared>) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener).context("no listener")?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, Arc::clone(&config), Arc::clone(&shared)));
    }
}

async fn serve(mut stream: TcpStream, config: Arc<Config>, shared: Arc<Shared>) {
    match shared.fault() {
        Fault::NoBanner => raw::ignore(stream).await,
        Fault::Banner(bytes) => raw::send(stream, &bytes).await,
        Fault::EndlessBanner => raw::send_endlessly(stream).await,
        _ => {
            let session = Session::new(shared);
            let dropped = session.dropped();
            // The session reads and writes a pipe, so that the connection can end without it.
            let (mut outer, inner) = tokio::io::duplex(64 << 10);
            let running = async {
                if let Ok(running) = russh::server::run_stream(config, inner, session).await {
                    let _ = running.await;
                }
            };
            tokio::select! {
                () = running => {}
                _ = tokio::io::copy_bidirectional(&mut stream, &mut outer) => {}
                () = dropped.cancelled() => {}
            }
        }
    }
}
