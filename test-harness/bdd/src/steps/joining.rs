//! Machines whose hive connects to the queen.

use std::{
    collections::BTreeSet, fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::PathBuf,
    time::Duration,
};

use cucumber::{given, then, when};
use daemon_shell::ProcessIdentity;
use state_files::{DaemonRecord, Home};

use super::{
    http::{client, queen_url, send},
    nodes::{node_status, processes},
};
use crate::{NetworkPath, PathState, World, eventually, within};

pub(super) fn link() {}

#[derive(Debug, Default)]
struct Paths(Option<NetworkPath>);

fn queen_address(world: &World) -> SocketAddr {
    let url = world.daemon("queen").expect("a queen is running").url;
    url.split_once("://").unwrap().1.parse().unwrap()
}

/// Notes the queen's address for machines as `{queen_https}`.
fn note_address(world: &mut World) {
    let url = format!("https://{}", queen_address(world));
    world.noted.entry("queen_https".into()).or_insert(url);
}

/// Notes the file as `{NAME_invitation}`.
#[given(regex = r"^an invitation for ([a-z]+)$")]
#[when(regex = r"^([a-z]+) is invited$")]
async fn invite(world: &mut World, machine: String) {
    note_address(world);
    let file = world.dir().join(format!("{machine}.invitation"));
    let _ = fs::remove_file(&file);
    let line = format!("rbee-keeper node invite {machine} --to {{dir}}/{machine}.invitation");
    let finished = world.run(&line).await.clone();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let file = file.to_string_lossy().into_owned();
    world.noted.insert(format!("{machine}_invitation"), file);
}

fn start_hive(world: &mut World, machine: &str, what: &str) {
    let line = format!("rbee-hive --home {{dir}}/{machine} --port 0 --worker-ports 0 {what}");
    let running = world.start(&line);
    world.running.insert(format!("hive_{machine}"), running);
}

#[when(regex = r"^([a-z]+) joins$")]
async fn join(world: &mut World, machine: String) {
    let what = format!("join --queen {{queen_https}} --token-file {{{machine}_invitation}}");
    start_hive(world, &machine, &what);
    node_status(world, machine.clone(), "reachable".to_owned()).await;
    let token = Home::at(world.dir().join(&machine)).joined_token();
    assert_eq!(
        fs::metadata(&token).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let token = token.to_string_lossy().into_owned();
    world.noted.insert(format!("{machine}_token"), token);
}

#[given(regex = r"^the joined node ([a-z]+)$")]
async fn joined(world: &mut World, machine: String) {
    invite(world, machine.clone()).await;
    join(world, machine).await;
}

#[given(regex = r"^the joined node ([a-z]+) behind a network path$")]
async fn joined_by_path(world: &mut World, machine: String) {
    let path = NetworkPath::to(queen_address(world)).await;
    let url = format!("https://127.0.0.1:{}", path.port);
    world.noted.insert("queen_https".into(), url);
    world.get::<Paths>().0 = Some(path);
    joined(world, machine).await;
}

#[when(regex = r"^the network path is (open|silent|cut)$")]
fn set_path(world: &mut World, state: String) {
    let path = world.get::<Paths>().0.as_ref().expect("a path");
    path.set(match state.as_str() {
        "open" => PathState::Open,
        "silent" => PathState::Silent,
        _ => PathState::Cut,
    });
}

/// The hive is started as after a restart of the machine: without an invitation.
#[when(regex = r"^the hive of ([a-z]+) is started again$")]
fn start_again(world: &mut World, machine: String) {
    start_hive(world, &machine, "");
}

#[when(regex = r"^the hive of ([a-z]+) is killed$")]
async fn kill_hive(world: &mut World, machine: String) {
    let hives: BTreeSet<u32> = pids(&world.processes_of("rbee-hive"));
    let own = processes(world, &machine).into_iter();
    let own: Vec<ProcessIdentity> = own.filter(|p| hives.contains(&p.pid)).collect();
    let [hive] = own[..] else {
        panic!("{own:?} of {:?}", world.processes());
    };
    world.kill(hive).await;
}

fn pids(processes: &[ProcessIdentity]) -> BTreeSet<u32> {
    processes.iter().map(|process| process.pid).collect()
}

/// Inodes of the sockets of a process.
fn sockets(pid: u32) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    let names = targets.map(|target| target.to_string_lossy().into_owned());
    names
        .filter_map(|name| Some(name.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect()
}

/// Reads the tables of the kernel: proc_net_tcp(5).
#[then(regex = r"^nothing of ([a-z]+) listens beyond the loopback interface$")]
fn listens_on_loopback(world: &mut World, machine: String) {
    const LISTEN: &str = "0A";
    let mut listening = 0;
    for process in processes(world, &machine) {
        let own = sockets(process.pid);
        for table in ["tcp", "tcp6"] {
            let table = fs::read_to_string(format!("/proc/{}/net/{table}", process.pid)).unwrap();
            for line in table.lines().skip(1) {
                let columns: Vec<&str> = line.split_whitespace().collect();
                let (local, state, inode) = (columns[1], columns[3], columns[9]);
                if state == LISTEN && own.contains(inode) {
                    listening += 1;
                    assert!(local.starts_with("0100007F:"), "{line}");
                }
            }
        }
    }
    assert!(listening >= 2, "the hive and a worker listen: {listening}");
}

/// The file of an invitation is the user's own.
#[then(regex = r"^the invitation of ([a-z]+) is nowhere but in its file$")]
fn invitation_nowhere(world: &mut World, machine: String) {
    let file = PathBuf::from(&world.noted[&format!("{machine}_invitation")]);
    let text = fs::read_to_string(&file).unwrap();
    let secret = text.split('.').nth(1).expect("an invitation");
    assert_eq!(secret.len(), 64, "{text}");
    let mut files = 0;
    let mut directories = vec![world.dir().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if let Ok(content) = fs::read(&path) {
                files += 1;
                let found = String::from_utf8_lossy(&content).contains(secret);
                assert!(!found || path == file, "it is in {}", path.display());
            }
        }
    }
    assert!(files > 5, "{files} files were searched");
    for (process, line) in world.processes() {
        assert!(!line.contains(secret), "{line}");
        let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&environment).contains(secret));
    }
    for running in world.running.values() {
        assert!(!(running.stdout() + &running.stderr()).contains(secret));
    }
}

/// The age of the last heartbeat grows until the next one arrives.
#[then(regex = r"^the workers of ([a-z]+) send heartbeats$")]
async fn heartbeats(world: &mut World, machine: String) {
    let queen = world.queen();
    let age = async || {
        let workers = queen.workers().await.unwrap().workers;
        let own = workers.iter().find(|w| w.info.hive_id.as_str() == machine);
        own.expect("a worker of the machine").heartbeat_age_ms
    };
    let mut last = age().await;
    within(Duration::from_secs(20), "a heartbeat", async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let next = age().await;
            if next < last {
                return;
            }
            last = next;
        }
    })
    .await;
}

#[then(regex = r"^([a-z]+) has (\d+) connections? to the queen$")]
fn connections(world: &mut World, machine: String, count: usize) {
    const ESTABLISHED: &str = "01";
    let port = format!(":{:04X}", queen_address(world).port());
    let mut found = Vec::new();
    for process in processes(world, &machine) {
        let own = sockets(process.pid);
        let table = fs::read_to_string(format!("/proc/{}/net/tcp", process.pid)).unwrap();
        for line in table.lines().skip(1) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (remote, state, inode) = (columns[2], columns[3], columns[9]);
            if state == ESTABLISHED && remote.ends_with(&port) && own.contains(inode) {
                found.push(line.to_owned());
            }
        }
    }
    assert_eq!(found.len(), count, "{found:#?}");
}

#[given("another queen")]
async fn another_queen(world: &mut World) {
    let running = world.start("queen-rbee --home {dir}/other_queen --port 0 --no-local-hive");
    let record = Home::at(world.dir().join("other_queen")).queen_record();
    let record = eventually(Duration::from_secs(20), || async {
        let record = DaemonRecord::read_alive(&record).unwrap();
        record.ok_or_else(|| running.stderr())
    })
    .await;
    let https = record.url.replacen("http://", "https://", 1);
    world.noted.insert("other_https".into(), https);
    world.running.insert("other_queen".into(), running);
}

#[when(regex = r"^the invitation for ([a-z]+) has expired$")]
async fn expired(world: &mut World, machine: String) {
    let queen = world.queen();
    eventually(Duration::from_secs(20), || async {
        let open = queen.invitations().await.unwrap().invitations;
        match open.iter().find(|open| open.name.as_str() == machine) {
            Some(open) => Err(format!("{open:?}")),
            None => Ok(()),
        }
    })
    .await;
}

#[when(regex = r"^I note the processes of ([a-z]+)$")]
fn note_processes(world: &mut World, machine: String) {
    let noted = format!("{:?}", pids(&processes(world, &machine)));
    world.noted.insert(format!("{machine} processes"), noted);
}

#[then(regex = r"^the same processes of ([a-z]+) run$")]
fn same_processes(world: &mut World, machine: String) {
    let running = format!("{:?}", pids(&processes(world, &machine)));
    assert_eq!(running, world.noted[&format!("{machine} processes")]);
}

#[when(regex = r"^a hive with interface version (\d+) connects with the token of ([a-z]+)$")]
async fn other_version(world: &mut World, version: u32, machine: String) {
    let token = fs::read_to_string(&world.noted[&format!("{machine}_token")]).unwrap();
    let path = format!("/v1/link?version=0.0.1&api_version={version}&queen_port=1");
    let request = client()
        .get(queen_url(world, &path))
        .bearer_auth(token.trim());
    world.response = Some(send(request).await);
}
