//! Machines with nothing but an SSH server: each has a home directory of its own, and the tests
//! can interrupt it.

use std::{collections::HashMap, fs, net::SocketAddr, path::PathBuf, time::Duration};

use cucumber::{given, then, when};
use ssh_server::{Mode, SshServer, Systemd};
use state_files::{DaemonRecord, Home};

use crate::{World, binary, eventually};

pub(super) fn link() {}

/// The machines of a scenario that have an SSH server, by their names.
#[derive(Debug, Default)]
pub struct Machines {
    servers: HashMap<String, SshServer>,
    /// Options of the client for each machine, such as `ProxyJump`.
    options: HashMap<String, String>,
    /// Their service managers, which end after the servers.
    managers: Vec<Systemd>,
}

impl Machines {
    /// Adds a machine, and describes it in the scenario's SSH configuration. `options` are lines of
    /// ssh_config(5). Notes the fingerprint of the host key, the port, the private key and the
    /// file of known hosts as `{NAME_host_key}`, `{NAME_ssh_port}`, `{NAME_ssh_key}` and
    /// `{NAME_known_hosts}`.
    pub fn add(world: &mut World, name: &str, server: SshServer, options: &str) {
        let key = server.host_key_fingerprint().unwrap();
        let port = server.port().to_string();
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        for (what, value) in [
            ("host_key", key),
            ("ssh_port", port),
            ("ssh_key", path(server.key_file())),
            ("known_hosts", path(server.known_hosts())),
        ] {
            world.noted.insert(format!("{name}_{what}"), value);
        }
        let machines = world.get::<Self>();
        machines.servers.insert(name.to_owned(), server);
        machines.options.insert(name.to_owned(), options.to_owned());
        let config = machines.config();
        fs::write(world.ssh_config(), config).unwrap();
    }

    /// The server of a machine. Panics if there is none.
    pub fn get(&self, machine: &str) -> &SshServer {
        let server = self.servers.get(machine);
        server.unwrap_or_else(|| panic!("no machine {machine}"))
    }

    /// The server of a machine, if it has one.
    pub fn find(&self, machine: &str) -> Option<&SshServer> {
        self.servers.get(machine)
    }

    fn config(&self) -> String {
        let blocks = self.servers.iter().map(|(name, server)| {
            let options = self.options.get(name).map_or("", String::as_str);
            format!("{}{options}\n", server.config_as(name))
        });
        let defaults = "Host *\n  IdentitiesOnly yes\n  UserKnownHostsFile /dev/null\n  \
                        GlobalKnownHostsFile /dev/null\n";
        blocks.chain([defaults.to_owned()]).collect()
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for server in self.servers.values() {
            server.shut_down();
        }
    }
}

pub(super) fn server<'a>(world: &'a mut World, machine: &str) -> &'a SshServer {
    world.get::<Machines>().get(machine)
}

pub(super) fn home(world: &mut World, machine: &str) -> Home {
    Home::at(server(world, machine).home().join(".rbee"))
}

/// Names of what is in the home directory of a machine.
fn files(world: &mut World, machine: &str) -> Vec<String> {
    let entries = fs::read_dir(server(world, machine).home()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[given(regex = r"^the machine ([a-z]+) with an SSH server$")]
fn machine(world: &mut World, name: String) {
    Machines::add(world, &name, SshServer::start().unwrap(), "");
}

#[given(regex = r"^the node ([a-z]+), reached by SSH$")]
async fn node(world: &mut World, name: String) {
    machine(world, name.clone());
    let finished = world.run(&format!("rbee-keeper node add {name}")).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
}

/// The programs of a release do not include the mock engine.
#[given(regex = r"^the node ([a-z]+), reached by SSH, with the mock engine$")]
async fn node_with_mock(world: &mut World, name: String) {
    node(world, name.clone()).await;
    mock_worker(world, name);
}

#[given(regex = r"^([a-z]+) has the processor (\w+)$")]
fn processor(world: &mut World, machine: String, name: String) {
    server(world, &machine).set_processor(&name).unwrap();
}

#[given(regex = r"^([a-z]+) has systemd, and lingering is (allowed|denied)$")]
fn systemd(world: &mut World, machine: String, lingering: String) {
    let linger = if lingering == "allowed" {
        "no"
    } else {
        "denied"
    };
    server(world, &machine).add_systemd(linger).unwrap();
}

#[given(regex = r"^([a-z]+) has the systemd of this machine$")]
fn real_systemd(world: &mut World, machine: String) {
    let manager = server(world, &machine).start_systemd().unwrap();
    world.get::<Machines>().managers.push(manager);
}

#[given(regex = r"^the host key of ([a-z]+) is not known$")]
fn unknown_host_key(world: &mut World, machine: String) {
    fs::write(server(world, &machine).known_hosts(), "").unwrap();
}

#[given(regex = r"^the SSH server of ([a-z]+) has another host key$")]
fn other_host_key(world: &mut World, machine: String) {
    server(world, &machine).replace_host_key().unwrap();
}

#[given(regex = r"^the SSH server of ([a-z]+) accepts no key$")]
fn no_key(world: &mut World, machine: String) {
    server(world, &machine).accept_no_key().unwrap();
}

#[given(regex = r"^the SSH server of ([a-z]+) refuses connections$")]
fn refuses(world: &mut World, machine: String) {
    server(world, &machine).set_mode(Mode::Refuse);
}

#[when(regex = r"^the SSH connections to ([a-z]+) are cut and refused$")]
fn cut(world: &mut World, machine: String) {
    let server = server(world, &machine);
    server.set_mode(Mode::Refuse);
    server.cut();
}

#[when(regex = r"^the machine ([a-z]+) freezes$")]
fn freezes(world: &mut World, machine: String) {
    server(world, &machine).freeze_machine();
}

#[when(regex = r"^the machine ([a-z]+) continues$")]
fn continues(world: &mut World, machine: String) {
    server(world, &machine).thaw_machine();
}

#[when(regex = r"^the machine ([a-z]+) loses power$")]
fn loses_power(world: &mut World, machine: String) {
    server(world, &machine).shut_down();
}

#[when(regex = r"^the SSH server of ([a-z]+) accepts connections again$")]
fn accepts(world: &mut World, machine: String) {
    server(world, &machine).set_mode(Mode::Serve);
}

/// Notes the pid of the hive as `{NAME_hive_pid}`.
#[given(regex = r"^the pid of the hive on ([a-z]+) is noted$")]
fn note_hive(world: &mut World, machine: String) {
    let record = DaemonRecord::read_alive(&home(world, &machine).hive_record()).unwrap();
    let pid = record.unwrap().process.pid.to_string();
    world.noted.insert(format!("{machine}_hive_pid"), pid);
}

#[when(regex = r"^the hive on ([a-z]+) is killed$")]
async fn kill_hive(world: &mut World, machine: String) {
    let record = DaemonRecord::read_alive(&home(world, &machine).hive_record()).unwrap();
    let process = record.unwrap().process;
    process.signal(daemon_shell::Signal::Kill).unwrap();
    process.gone().await;
}

#[then(regex = r"^the hive on ([a-z]+) has (the noted|another) pid$")]
async fn hive_pid(world: &mut World, machine: String, which: String) {
    let noted = world.noted[&format!("{machine}_hive_pid")].clone();
    let home = home(world, &machine);
    let pid = eventually(Duration::from_secs(20), || async {
        let record = DaemonRecord::read_alive(&home.hive_record()).unwrap();
        record.ok_or("no hive is running")
    })
    .await
    .process
    .pid
    .to_string();
    assert_eq!(pid == noted, which == "the noted", "{pid}, noted: {noted}");
}

#[then(regex = r"^the home directory of ([a-z]+) contains (nothing|only `([^`]+)`)$")]
fn home_contains(world: &mut World, machine: String, what: String, name: String) {
    let files = files(world, &machine);
    if what == "nothing" {
        assert_eq!(files, Vec::<String>::new());
    } else {
        assert_eq!(files, [name]);
    }
}

#[then(regex = r"^(\d+) programs of ([a-z]+) are running$")]
async fn programs_run(world: &mut World, number: usize, machine: String) {
    let server = server(world, &machine);
    eventually(Duration::from_secs(20), || async {
        let running = server.programs();
        if running.len() == number {
            Ok(())
        } else {
            Err(format!("{running:?}"))
        }
    })
    .await;
}

#[then("no SSH connection is left")]
async fn no_connection(world: &mut World) {
    eventually(Duration::from_secs(20), || async {
        let mut lines = world.processes().into_values();
        match lines.find(|line| line.starts_with("ssh ")) {
            None => Ok(()),
            Some(line) => Err(line),
        }
    })
    .await;
}

/// A hive starts workers that are beside it. The mock worker is not part of a release.
#[given(regex = r"^([a-z]+) has the mock worker$")]
fn mock_worker(world: &mut World, machine: String) {
    let name = "mock-worker-rbee";
    let programs = server(world, &machine).home().join(".rbee/bin/current");
    // A link would not count as a program of the machine.
    fs::copy(binary(name), programs.join(name)).unwrap();
}

/// Notes the pids of the programs as `{NAME_pids}`.
#[given(regex = r"^the pids of the programs of ([a-z]+) are noted$")]
fn note_pids(world: &mut World, machine: String) {
    let pids = pids(world, &machine);
    world.noted.insert(format!("{machine}_pids"), pids);
}

#[then(regex = r"^the programs of ([a-z]+) have the noted pids$")]
fn same_pids(world: &mut World, machine: String) {
    let noted = world.noted[&format!("{machine}_pids")].clone();
    assert_eq!(pids(world, &machine), noted);
}

fn pids(world: &mut World, machine: &str) -> String {
    let mut programs = server(world, machine).programs();
    programs.sort_by_key(|(pid, _)| pid.as_raw_nonzero());
    format!("{programs:?}")
}

#[then(regex = r"^the programs of ([a-z]+) listen on the loopback interface only$")]
fn listen_on_loopback(world: &mut World, machine: String) {
    let listening = server(world, &machine).listening();
    assert!(!listening.is_empty());
    let loopback = |address: &SocketAddr| address.ip().is_loopback();
    assert!(listening.iter().all(loopback), "{listening:?}");
}

#[then(regex = r"^the user's known hosts of ([a-z]+) are (empty|unchanged)$")]
fn known_hosts(world: &mut World, machine: String, state: String) {
    let text = fs::read_to_string(server(world, &machine).known_hosts()).unwrap();
    assert_eq!(text.is_empty(), state == "empty", "{text}");
}
