#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    missing_docs
)]
//! Feature 100 with the real programs.

use std::{fs, net::TcpListener, process::ExitCode, time::Duration};

use bdd::World;
use cucumber::{given, then, when};
use daemon_shell::ProcessIdentity;
use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use state_files::{DaemonRecord, Home};

/// SQLite keeps `user_version` here in the file's header (sqlite.org/fileformat2.html).
const USER_VERSION: std::ops::Range<usize> = 60..64;

/// What the steps of this file remember.
#[derive(Debug, Default)]
struct Lifecycle {
    keepers: Vec<Value>,
    listener: Option<TcpListener>,
    database: Vec<u8>,
}

#[tokio::main]
async fn main() -> ExitCode {
    bdd::run(&["100-queen-lifecycle"]).await
}

fn process_of(world: &World, program: &str) -> String {
    if program == "queen" {
        let queen = world.daemon("queen").expect("a queen runs");
        return queen.process.pid.to_string();
    }
    let found = world.processes_of("mock-worker-rbee");
    assert_eq!(found.len(), 1, "one worker: {:?}", world.processes());
    found[0].pid.to_string()
}

#[given(regex = r"^the (queen|worker)'s process is noted$")]
fn note_process(world: &mut World, program: String) {
    let pid = process_of(world, &program);
    world.noted.insert(format!("{program}_pid"), pid);
    let url = world.daemon("queen").expect("a queen runs").url;
    let port = url.rsplit(':').next().unwrap_or_default().to_owned();
    world.noted.insert("queen_port".into(), port);
}

#[then(regex = r"^the (queen|worker)'s process is the noted one$")]
fn same_process(world: &mut World, program: String) {
    let noted = world.noted[&format!("{program}_pid")].clone();
    assert_eq!(process_of(world, &program), noted);
}

#[when("the queen's process is frozen")]
fn freeze(world: &mut World) {
    let pid = process_of(world, "queen").parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
}

#[when(regex = r"^(\d+) keepers start a queen at once$")]
async fn start_at_once(world: &mut World, count: usize) {
    let keepers: Vec<_> = (0..count)
        .map(|_| world.start("rbee-keeper queen start --json"))
        .collect();
    let ended = join_all(
        keepers
            .into_iter()
            .map(|k| k.finish(Duration::from_secs(60))),
    )
    .await;
    world.get::<Lifecycle>().keepers = ended
        .iter()
        .map(|keeper| {
            assert_eq!(keeper.code, Some(0), "{keeper:#?}");
            serde_json::from_str(&keeper.stdout).unwrap()
        })
        .collect();
}

#[then("one of them started it and all name the same")]
fn one_started(world: &mut World) {
    let keepers = &world.get::<Lifecycle>().keepers;
    let started = keepers.iter().filter(|k| k["started"] == true).count();
    assert_eq!(started, 1, "{keepers:?}");
    assert!(
        keepers
            .iter()
            .all(|k| k["url"] == keepers[0]["url"] && k["pid"] == keepers[0]["pid"])
    );
}

#[then("stdout names worker, hive and queen in this order")]
fn order(world: &mut World) {
    let out = &world.last().stdout;
    let line = |what: &str| {
        out.lines()
            .position(|line| line.contains(what))
            .unwrap_or_else(|| panic!("no {what} in:\n{out}"))
    };
    let (worker, hive, queen) = (line("worker"), line("hive"), line("queen"));
    assert!(worker < hive && hive < queen, "{out}");
}

#[then(regex = r"^stdout has (\d+) lines?$")]
fn line_count(world: &mut World, count: usize) {
    let out = &world.last().stdout;
    assert_eq!(out.lines().count(), count, "{out}");
}

#[then(regex = r"^the file `(.*)` (exists|does not exist)$")]
fn file_exists(world: &mut World, path: String, verb: String) {
    let path = world.fill(&path);
    assert_eq!(fs::exists(&path).unwrap(), verb == "exists", "{path}");
}

#[then(regex = r"^the last event is `(.*)`, and the only one of its kind$")]
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

#[given("a port that something else listens on")]
fn take_port(world: &mut World) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    world.noted.insert("port".into(), port.to_string());
    world.get::<Lifecycle>().listener = Some(listener);
}

#[given("the queen's database is of a newer version")]
fn newer_database(world: &mut World) {
    let path = Home::at(world.home()).queen_database();
    let mut bytes = fs::read(&path).unwrap();
    bytes[USER_VERSION].copy_from_slice(&9999_u32.to_be_bytes());
    fs::write(path, &bytes).unwrap();
    world.get::<Lifecycle>().database = bytes;
}

#[then("the queen's database is unchanged")]
fn same_database(world: &mut World) {
    let now = fs::read(Home::at(world.home()).queen_database()).unwrap();
    assert!(now == world.get::<Lifecycle>().database, "the file differs");
}

#[given(regex = r"^a queen of interface version (\d+) is on record$")]
fn foreign_version(world: &mut World, api_version: u32) {
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
