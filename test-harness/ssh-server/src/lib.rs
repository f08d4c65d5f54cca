//! OpenSSH's sshd for tests: it listens on a free port of the loopback interface, its keys and
//! the home directory of its user are temporary, and a test can interrupt it.
//!
//! The fixture listens itself and starts `sshd -i` for each connection. So no port is chosen
//! before it is bound, and connections can be refused, ignored, frozen and cut.

mod agent;
mod connections;
mod files;
mod programs;
mod real_systemd;
mod repository;
mod systemd;

use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, mpsc},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

pub use agent::SshAgent;
use connections::Connections;
pub use connections::Mode;
pub use files::write_all as write_files;
pub use real_systemd::Systemd;
pub use repository::Repository;

/// Name of the server in [`SshServer::config`].
pub const ALIAS: &str = "box";

/// How a server is started.
pub struct Settings {
    /// Login shell of the user.
    pub shell: PathBuf,
    /// Where the server listens, on a free port.
    pub address: IpAddr,
    /// Is called first, on the thread that accepts connections and starts `sshd`. It can move
    /// this thread to a network namespace.
    pub enter: Box<dyn FnOnce() -> Result<()> + Send>,
}

impl Default for Settings {
    /// `/bin/sh`, on `127.0.0.1`.
    fn default() -> Self {
        Self {
            shell: "/bin/sh".into(),
            address: Ipv4Addr::LOCALHOST.into(),
            enter: Box::new(|| Ok(())),
        }
    }
}

/// An SSH server. It stops when it is dropped; what its sessions started may keep running.
#[derive(Debug)]
pub struct SshServer {
    dir: TempDir,
    address: SocketAddr,
    user: String,
    listener: TcpListener,
    connections: Arc<Connections>,
}

impl SshServer {
    /// Starts a server with the default settings.
    pub fn start() -> Result<Self> {
        Self::start_with(Settings::default())
    }

    /// Starts a server whose sessions run commands with this login shell.
    pub fn start_with_shell(shell: &Path) -> Result<Self> {
        Self::start_with(Settings {
            shell: shell.to_owned(),
            ..Settings::default()
        })
    }

    /// Starts a server.
    pub fn start_with(settings: Settings) -> Result<Self> {
        let sshd = find_sshd()?;
        let user = user_name()?;
        let dir = tempfile::Builder::new().prefix("sshd-").tempdir()?;
        let connections = Arc::new(Connections::new(sshd, dir.path().join("sshd_config")));
        let (sender, bound) = mpsc::channel();
        thread::spawn({
            let connections = Arc::clone(&connections);
            move || {
                let listener = (settings.enter)().and_then(|()| {
                    let listener = TcpListener::bind((settings.address, 0))?;
                    Ok((listener.try_clone()?, listener))
                });
                let (own, result) = match listener {
                    Ok((own, listener)) => (Some(own), Ok(listener)),
                    Err(error) => (None, Err(error)),
                };
                if sender.send(result).is_ok()
                    && let Some(listener) = own
                {
                    connections.accept_from(&listener);
                }
            }
        });
        let listener = bound.recv().context("the server has no thread")??;
        let address = listener.local_addr()?;
        // Connections wait in the queue of the socket until the thread accepts them.
        files::write_all(dir.path(), address, &settings.shell)?;
        Ok(Self {
            dir,
            address,
            user,
            listener,
            connections,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Port on which it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// User who may log in: the one that runs the tests.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// `HOME` of the sessions.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// Private key that the server accepts.
    pub fn key_file(&self) -> PathBuf {
        self.dir.path().join("user_key")
    }

    /// Configuration of a client: the alias [`ALIAS`] for this server with its key, and a file of
    /// known hosts that contains its host key.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("ssh_config")
    }

    /// Known hosts of [`config`](Self::config).
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.path().join("known_hosts")
    }

    /// The part of [`config`](Self::config) for this server, with another alias.
    pub fn config_as(&self, alias: &str) -> String {
        files::client_block(self.dir.path(), self.address, alias)
    }

    /// Sets the passphrase of [`key_file`](Self::key_file), which has none.
    pub fn set_passphrase(&self, passphrase: &str) -> Result<()> {
        files::set_passphrase(&self.key_file(), passphrase)
    }

    /// Adds a line to the configuration of the server. It is valid for new connections.
    pub fn add_to_server_config(&self, line: &str) -> Result<()> {
        let file = self.dir.path().join("sshd_config");
        // The first value of an option is valid.
        let text = fs::read_to_string(&file)?;
        Ok(fs::write(file, format!("{line}\n{text}"))?)
    }

    /// Fingerprint of the host key, as OpenSSH prints it.
    pub fn host_key_fingerprint(&self) -> Result<String> {
        let output = Command::new("ssh-keygen")
            .arg("-lf")
            .arg(self.dir.path().join("host_key.pub"))
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let fingerprint = text.split(' ').nth(1).context("no fingerprint")?;
        Ok(fingerprint.to_owned())
    }

    /// Replaces the host key, as if the machine were another one.
    pub fn replace_host_key(&self) -> Result<()> {
        files::host_key(self.dir.path())
    }

    /// Puts a script before the programs of this name of the machine.
    pub fn add_program(&self, name: &str, script: &str) -> Result<()> {
        files::program(self.dir.path(), name, script)
    }

    /// Adds the cargo that runs the tests, whose files are not in the home directory of the
    /// sessions.
    pub fn add_cargo(&self) -> Result<()> {
        let cargo = env::var("CARGO").context("cargo does not run this test")?;
        let home = env::var("HOME")?;
        let directory = |name: &str, default: &str| {
            env::var(name).unwrap_or_else(|_| format!("{home}/{default}"))
        };
        let (cargo_home, rustup_home) = (
            directory("CARGO_HOME", ".cargo"),
            directory("RUSTUP_HOME", ".rustup"),
        );
        for name in ["cargo", "rustc"] {
            let program = Path::new(&cargo).with_file_name(name);
            let script = format!(
                "#!/bin/sh\nexport CARGO_HOME='{cargo_home}' RUSTUP_HOME='{rustup_home}'\n\
                 exec '{}' \"$@\"\n",
                program.display()
            );
            self.add_program(name, &script)?;
        }
        Ok(())
    }

    /// Removes programs of these names from the machine, except for those that were added.
    pub fn hide_programs(&self, names: &[&str]) -> Result<()> {
        files::hide_programs(self.dir.path(), names)
    }

    /// Makes `uname` name another processor.
    pub fn set_processor(&self, name: &str) -> Result<()> {
        let script = format!(
            "#!/bin/sh\ncase $1 in -m) echo {name};; -n) echo other;; *) echo Linux;; esac\n"
        );
        self.add_program("uname", &script)
    }

    /// Adds a service manager of the user, in which lingering is `linger`: `yes`, `no`, or `denied`.
    /// One that is `broken` has it and starts nothing.
    pub fn add_systemd(&self, linger: &str) -> Result<()> {
        systemd::write(self.dir.path(), linger)
    }

    /// Starts systemd as the service manager of the user. Needs root.
    pub fn start_systemd(&self) -> Result<Systemd> {
        real_systemd::start(self.dir.path(), &self.home())
    }

    /// Calls of `systemctl` and `loginctl`, one in a line.
    pub fn service_calls(&self) -> String {
        systemd::calls(self.dir.path())
    }

    /// Refuses all keys from now on.
    pub fn accept_no_key(&self) -> Result<()> {
        Ok(fs::write(self.key_file().with_extension("pub"), "")?)
    }

    /// Adds lines to [`config`](Self::config).
    pub fn add_to_config(&self, lines: &str) -> Result<()> {
        let mut config = fs::read_to_string(self.config())?;
        config.push_str(lines);
        Ok(fs::write(self.config(), config)?)
    }

    /// Chooses what happens to new connections.
    pub fn set_mode(&self, mode: Mode) {
        self.connections.set_mode(mode);
    }

    /// Ends all connections. The processes that they started keep running.
    pub fn cut(&self) {
        self.connections.signal(Signal::KILL);
    }

    /// Stops the server without ending the connections: nothing is received or sent.
    pub fn freeze(&self) {
        self.connections.set_mode(Mode::Ignore);
        self.connections.signal(Signal::STOP);
    }

    /// Continues after [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.connections.signal(Signal::CONT);
        self.connections.set_mode(Mode::Serve);
    }

    /// Stops the server and the programs of the machine, without ending anything.
    pub fn freeze_machine(&self) {
        self.freeze();
        self.signal_programs(Signal::STOP);
    }

    /// Continues after [`freeze_machine`](Self::freeze_machine).
    pub fn thaw_machine(&self) {
        self.signal_programs(Signal::CONT);
        self.thaw();
    }

    /// Ends the server and the programs of the machine at once, as a loss of power does. The
    /// server returns with [`set_mode`](Self::set_mode).
    pub fn shut_down(&self) {
        self.connections.set_mode(Mode::Refuse);
        self.cut();
        self.signal_programs(Signal::KILL);
    }

    fn signal_programs(&self, signal: Signal) {
        for (pid, _) in self.programs() {
            // It may have exited in the meantime.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// The processes whose programs are in [`home`](Self::home), and these programs.
    pub fn programs(&self) -> Vec<(Pid, PathBuf)> {
        programs::running(&self.home())
    }

    /// The processes that have [`home`](Self::home) and `text` in their command lines, in any
    /// order. It finds scripts, which [`programs`](Self::programs) does not.
    pub fn processes(&self, text: &str) -> Vec<u32> {
        programs::with_arguments(&[&self.home().to_string_lossy(), text])
    }

    /// Addresses on which these processes listen.
    pub fn listening(&self) -> Vec<SocketAddr> {
        programs::listening(&self.programs())
    }

    /// Addresses of the machine on which the server listens for connections to its clients.
    pub fn forwards(&self) -> Vec<SocketAddr> {
        programs::listening(&programs::in_groups(&self.connections.pids()))
    }

    /// Log of the server: its connections and errors.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("sshd.log")).unwrap_or_default()
    }

    /// Number of connections.
    pub fn connections(&self) -> usize {
        self.connections.count()
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        self.connections.set_mode(Mode::Stop);
        self.cut();
        // Wakes the thread that accepts connections (shutdown(2) on Linux).
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

/// Addresses on which any process listens in the network namespace of this process.
pub fn all_listening(process: rustix::process::Pid) -> Vec<SocketAddr> {
    let listeners = programs::listeners(process).into_iter();
    listeners.map(|(address, _)| address).collect()
}

/// Routes to other networks in the network namespace of this process, as the kernel prints them.
pub fn other_routes(process: rustix::process::Pid) -> Vec<String> {
    programs::gateways(process)
}

fn find_sshd() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let sshd = env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|dir| dir.join("sshd"))
        .find(|file| file.is_file())
        .context("`sshd` is missing: run `sudo apt-get install -y openssh-server`")?;
    // The directory that sshd changes its root to, if it runs as root. It is created by the
    // service, which need not run.
    if rustix::process::geteuid().is_root() {
        fs::create_dir_all("/run/sshd").context("cannot create /run/sshd")?;
    }
    Ok(sshd)
}

fn user_name() -> Result<String> {
    let output = Command::new("id").arg("-un").output()?;
    ensure!(output.status.success(), "`id -un` fails");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
