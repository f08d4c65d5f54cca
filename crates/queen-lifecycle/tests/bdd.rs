//! Feature 100 with the real binaries.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    missing_docs,
    reason = "test code: a step fails by panicking"
)]

use std::{fs, process::ExitCode, time::Duration};

use bdd::World;
use cucumber::{given, then, when};
use daemon_shell::ProcessIdentity;
use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use state_files::{DaemonRecord, Home};

/// Position of `user_version` in the header of an SQLite file (sqlite.org/fileformat2.html).
const USER_VERSION: std::ops::Range<usize> = 60..64;

/// State of these steps in addition to the shared World.
#[derive(Debug, Default)]
struct State {
    /// Output of the keepers that started a queen at the same time.
    keepers: Vec<Value>,
    /// The queen's database in a newer schema.
    database: Vec<u8>,
}

#[tokio::main]
async fn main() -> ExitCode {
    bdd::run(&["100-queen-lifecycle"]).await
}

fn pid_of(world: &World, daemon: &str) -> u32 {
    if daemon == "queen" {
        return world
            .daemon("queen")
            .expect("a queen is running")
            .process
            .pid;
    }
    let found = world.processes_of("mock-worker-rbee");
    assert_eq!(found.len(), 1, "workers in {:?}", world.processes());
    found[0].pid
}

#[given(regex = r"^I noted the process of the (queen|worker)$")]
fn note_process(world: &mut World, daemon: String) {
    let pid = pid_of(world, &daemon).to_string();
    world.noted.insert(format!("{daemon}_pid"), pid);
}

#[then(regex = r"^the process of the (queen|worker) is the same$")]
fn same_process(world: &mut World, daemon: String) {
    let noted = &world.noted[&format!("{daemon}_pid")];
    assert_eq!(pid_of(world, &daemon).to_string(), *noted);
}

#[when("the queen's process is frozen")]
fn freeze(world: &mut World) {
    let pid = i32::try_from(pid_of(world, "queen")).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
}

#[when(regex = r"^(\d+) keepers start a queen at the same time$")]
async fn start_at_once(world: &mut World, count: usize) {
    let keepers: Vec<_> = (0..count)
        .map(|_| world.start("rbee-keeper queen start --json"))
        .collect();
    let finished = join_all(
        keepers
            .into_iter()
            .map(|k| k.finish(Duration::from_secs(60))),
    )
    .await;
    world.get::<State>().keepers = finished
        .iter()
        .map(|keeper| {
            assert_eq!(keeper.code, Some(0), "{keeper:#?}");
            serde_json::from_str(&keeper.stdout).unwrap()
        })
        .collect();
}

#[then("exactly one of them started it, and all report the same queen")]
fn one_started(world: &mut World) {
    let queen = world.daemon("queen").expect("a queen is running");
    let keepers = &world.get::<State>().keepers;
    let started = keepers.iter().filter(|k| k["started"] == true).count();
    assert_eq!(started, 1, "{keepers:?}");
    for keeper in keepers {
        assert_eq!(keeper["url"], queen.url.as_str(), "{keepers:?}");
        assert_eq!(keeper["pid"], queen.process.pid, "{keepers:?}");
    }
}

#[then("stdout names worker, hive and queen in this order")]
fn order(world: &mut World) {
    let out = &world.last().stdout;
    let line = |start: &str| {
        out.lines()
            .position(|line| line.starts_with(start))
            .unwrap_or_else(|| panic!("no `{start}` in:\n{out}"))
    };
    let worker = line("stopped worker ");
    let (hive, queen) = (line("stopped hive "), line("stopped the queen "));
    assert!(worker < hive && hive < queen, "{out}");
}

#[then(regex = r"^stdout has (\d+) lines?$")]
fn line_count(world: &mut World, count: usize) {
    let out = &world.last().stdout;
    assert_eq!(out.lines().count(), count, "{out}");
}

#[then(regex = r"^the only terminal event is the last one, `(.*)`$")]
fn last_event(world: &mut World, name: String) {
    let out = &world.last().stdout;
    let names: Vec<String> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|event| event["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names.last(), Some(&name), "{out}");
    let terminal = |n: &&String| matches!(n.as_str(), "end" | "error");
    assert_eq!(names.iter().filter(terminal).count(), 1, "{out}");
}

#[given("the queen's database has a newer schema")]
fn newer_database(world: &mut World) {
    let path = world.files().queen_database();
    let mut bytes = fs::read(&path).unwrap();
    bytes[USER_VERSION].copy_from_slice(&9999_u32.to_be_bytes());
    fs::write(path, &bytes).unwrap();
    world.get::<State>().database = bytes;
}

#[then("the queen's database is unchanged")]
fn same_database(world: &mut World) {
    let now = fs::read(world.files().queen_database()).unwrap();
    assert!(!now.is_empty());
    assert!(now == world.get::<State>().database, "the file differs");
}

#[given(regex = r"^the record of a queen with interface version (\d+)$")]
fn other_version(world: &mut World, api_version: u32) {
    let home = Home::open(Some(world.home())).unwrap();
    DaemonRecord {
        process: ProcessIdentity::own(),
        url: "http://127.0.0.1:0".into(),
        version: "9.9.9".into(),
        api_version,
        started_at: jiff::Timestamp::UNIX_EPOCH,
    }
    .write(&home.queen_record())
    .unwrap();
}
