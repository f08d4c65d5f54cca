//! Machines with a system of their own: a root directory, processes and a network. What a machine
//! writes is in a layer above the root directory (`overlay`), so the files that it has changed are
//! known.

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bdd::{World, eventually};
use cucumber::{given, then};
use network::{Namespace, Wire};
use rustix::process::Pid;

/// Directory with the root directories, by their names. Set by `cargo xtask outside platforms`.
const ROOTS: &str = "RBEE_PLATFORMS";
/// Ordinary user of the root directories.
const USER: &str = "me";

/// Runs as the first process of the machine, in its namespaces. `$1` is the root directory, `$2`
/// the layer above it, `$3` a place for both, `$4` the address of the server.
const START: &str = r#"
set -e
mkdir -p "$2" "$3/work" "$3/all"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3/work" "$3/all"
mount -t proc proc "$3/all/proc"
mount --rbind /dev "$3/all/dev"
mount -t tmpfs tmpfs "$3/all/run"
mkdir "$3/all/run/sshd"
exec chroot "$3/all" /usr/sbin/sshd -D -e -o ListenAddress="$4" -o PidFile=none -o UsePAM=no \
  -o PrintLastLog=no -o StrictModes=no -o AuthorizedKeysFile=/etc/ssh/test_keys
"#;

/// The systems of a scenario, by the names of their machines.
#[derive(Debug, Default)]
struct Systems(HashMap<String, System>);

#[derive(Debug)]
struct System {
    /// Waits for the first process of the machine; all others end with it.
    process: Child,
    /// Root directory below the layer.
    root: PathBuf,
    /// What the machine has changed.
    layer: PathBuf,
    /// Files of the layer that were there before anything ran.
    at_first: Vec<String>,
    wire: Wire,
}

impl System {
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.layer, &self.layer, &mut found);
        found.sort();
        found
    }

    fn changed(&self) -> Vec<String> {
        let files = self.files().into_iter();
        let changed = files.filter(|file| !self.at_first.contains(file));
        // A directory of the system stays in the layer when what was added to it is removed.
        changed
            .filter(|file| !self.root.join(file).is_dir())
            .collect()
    }

    /// Process id of the SSH server that accepts connections: the child of `unshare`.
    fn server(&self) -> Pid {
        let id = self.process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        Pid::from_raw(children.trim().parse().unwrap()).unwrap()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Adds the paths of the files and empty directories of a directory, relative to `root`.
fn walk(root: &Path, directory: &Path, found: &mut Vec<String>) {
    let entries: Vec<_> = fs::read_dir(directory).unwrap().flatten().collect();
    if entries.is_empty() && directory != root {
        found.push(relative(root, directory));
    }
    for entry in entries {
        if entry.file_type().unwrap().is_dir() {
            walk(root, &entry.path(), found);
        } else {
            found.push(relative(root, &entry.path()));
        }
    }
}

fn relative(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).unwrap();
    path.to_string_lossy().into_owned()
}

fn system<'a>(world: &'a mut World, machine: &str) -> &'a System {
    &world.get::<Systems>().0[machine]
}

/// Runs a program of a root directory.
fn run_in(root: &Path, program: &[&str]) -> String {
    let output = Command::new("chroot").arg(root).args(program).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[given(
    regex = r"^the machine ([a-z]+) with the system (own|older)(, whose C library seems to be musl)?$"
)]
async fn machine(world: &mut World, name: String, which: String, musl: String) {
    let roots = std::env::var_os(ROOTS).expect("the scenario is selected only if it is set");
    let root = Path::new(&roots).join(which);
    let place = world.dir().join(format!("system_{name}"));
    let layer = place.join("layer");
    fs::create_dir_all(layer.join("etc/ssh")).unwrap();
    let key = place.join("key");
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status();
    assert!(status.unwrap().success());
    fs::copy(key.with_extension("pub"), layer.join("etc/ssh/test_keys")).unwrap();
    if !musl.is_empty() {
        // As on Alpine, which has no GNU_LIBC_VERSION.
        fs::create_dir_all(layer.join("usr/bin")).unwrap();
        fs::create_dir_all(layer.join("usr/lib")).unwrap();
        let script = "#!/bin/sh\necho unknown variable >&2\nexit 1\n";
        write_program(&layer.join("usr/bin/getconf"), script);
        write_program(&layer.join("usr/lib/ld-musl-x86_64.so.1"), "");
    }
    let namespace = Namespace::new().unwrap();
    let wire = Wire::to(&namespace).unwrap();
    let address = wire.there().to_string();
    let process = std::thread::spawn({
        let (root, layer, place) = (root.clone(), layer.clone(), place.clone());
        let log = fs::File::create(place.join("log")).unwrap();
        move || {
            namespace.enter().unwrap();
            Command::new("unshare")
                .args(["--mount", "--pid", "--uts", "--fork", "--kill-child", "--"])
                .args(["sh", "-c", START, "sh"])
                .args([&root, &layer, &place])
                .arg(address)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap()
        }
    });
    let process = process.join().unwrap();
    let server = SocketAddr::new(wire.there().into(), 22);
    eventually(Duration::from_secs(20), || async {
        let connected = tokio::net::TcpStream::connect(server).await;
        connected.map_err(|e| format!("{e}: {:?}", fs::read_to_string(place.join("log"))))
    })
    .await;
    let host_key = fs::read_to_string(root.join("etc/ssh/ssh_host_ed25519_key.pub")).unwrap();
    let known = place.join("known_hosts");
    fs::write(&known, format!("{} {host_key}", server.ip())).unwrap();
    let mut config = fs::File::options()
        .append(true)
        .open(world.ssh_config())
        .unwrap();
    let (key, known) = (key.display(), known.display());
    write!(
        config,
        "Host {name}\n  HostName {}\n  User {USER}\n  IdentityFile {key}\n  IdentitiesOnly yes\n  \
         UserKnownHostsFile {known}\n  GlobalKnownHostsFile /dev/null\n",
        server.ip()
    )
    .unwrap();
    note_platforms(world, Path::new(&roots));
    let mut system = System {
        process,
        root,
        layer,
        at_first: Vec::new(),
        wire,
    };
    system.at_first = system.files();
    world.get::<Systems>().0.insert(name, system);
}

fn write_program(file: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Notes what the messages name: `{arch}`, `{older_glibc}`, and `{release_glibc}`, which is the
/// newest version in the names of the hive's symbols as readelf(1) prints them.
fn note_platforms(world: &mut World, roots: &Path) {
    let older = run_in(&roots.join("older"), &["getconf", "GNU_LIBC_VERSION"]);
    let older = older.trim_start_matches("glibc ").to_owned();
    let mut newest = (0, 0);
    for program in ["rbee-hive", "llm-cpu-worker-rbee"] {
        let output = Command::new("readelf")
            .arg("--version-info")
            .arg(bdd::binary(program))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for name in text.split("Name: GLIBC_").skip(1) {
            let version: String = name.chars().take_while(|c| !c.is_whitespace()).collect();
            let mut numbers = version.split('.').map_while(|number| number.parse().ok());
            let found: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
            newest = newest.max(found);
        }
    }
    assert!(newest > (0, 0), "no versions of symbols");
    let newest = format!("{}.{}", newest.0, newest.1);
    for (what, value) in [
        ("older_glibc", older),
        ("release_glibc", newest),
        ("arch", std::env::consts::ARCH.to_owned()),
    ] {
        world.noted.insert(what.to_owned(), value);
    }
}

#[then(regex = r"^what has changed on ([a-z]+) is in `([^`]+)`$")]
fn changed_in(world: &mut World, machine: String, directory: String) {
    let changed = system(world, &machine).changed();
    assert!(!changed.is_empty());
    let elsewhere: Vec<_> = changed
        .iter()
        .filter(|f| !f.starts_with(&directory))
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}

#[then(regex = r"^nothing has changed on ([a-z]+)$")]
fn nothing_changed(world: &mut World, machine: String) {
    assert_eq!(system(world, &machine).changed(), Vec::<String>::new());
}

#[then(regex = r"^other machines can reach only the SSH server of the system of ([a-z]+)$")]
fn only_ssh(world: &mut World, machine: String) {
    let system = system(world, &machine);
    let expected = SocketAddr::new(system.wire.there().into(), 22);
    let all = ssh_server::all_listening(system.server());
    assert!(all.len() > 1, "the hive listens: {all:?}");
    let reachable: Vec<_> = all.into_iter().filter(|a| !a.ip().is_loopback()).collect();
    assert_eq!(reachable, [expected]);
}

/// The process ids of the machine are its own.
#[then(regex = r"^only the SSH server is running on ([a-z]+)$")]
async fn only_server(world: &mut World, machine: String) {
    let pid = system(world, &machine).server().as_raw_nonzero();
    eventually(Duration::from_secs(20), || async {
        let root = Path::new("/proc").join(pid.to_string()).join("root");
        let entries = fs::read_dir(root.join("proc")).unwrap();
        let lines: Vec<String> = entries
            .flatten()
            .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| !line.is_empty() && !line.contains("sshd"))
            // The session that keeps the connection of the queen.
            .filter(|line| line.trim() != "cat")
            .collect();
        if lines.is_empty() {
            Ok(())
        } else {
            Err(format!("{lines:?}"))
        }
    })
    .await;
}
