use std::time::Duration;

use cucumber::{given, then, when};
use daemon_shell::Signal;
use queen_contract::Availability;

use crate::{ReservedPort, TakenPort, World, eventually, within};

pub(super) fn link() {}

#[given("a running queen")]
async fn running_queen(world: &mut World) {
    let finished = world.run("rbee-keeper queen start").await.clone();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    world.await_daemon("queen").await;
    world.await_daemon("hive").await;
}

#[given(regex = r"^a worker that serves `(.*)`$")]
async fn a_worker(world: &mut World, model: String) {
    let line = format!("rbee-keeper infer hello --max-tokens 1 --model '{model}'");
    let finished = world.run(&line).await.clone();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
}

#[when(regex = r"^the (queen|hive) is killed$")]
async fn kill_daemon(world: &mut World, name: String) {
    let record = world.daemon(&name).expect("it is running");
    world
        .noted
        .insert(format!("killed_{name}"), record.process.pid.to_string());
    world.signalled.insert(name, record.process);
    world.kill(record.process).await;
}

#[when(regex = r"^the (queen|hive) gets SIGTERM$")]
fn terminate_daemon(world: &mut World, name: String) {
    let record = world.daemon(&name).expect("it is running");
    record.process.signal(Signal::Term).unwrap();
    world.signalled.insert(name, record.process);
}

/// The record is removed before the process exits, so it does not say whether the process that
/// was signalled is gone.
#[then(regex = r"^the (queen|hive) exits within (\d+) s$")]
async fn daemon_exits(world: &mut World, name: String, seconds: u64) {
    let process = world.signalled.get(&name).expect("it was signalled");
    within(Duration::from_secs(seconds), &name, process.gone()).await;
    assert!(!process.is_alive());
}

#[given("a port reserved for the queen")]
fn reserved_queen_port(world: &mut World) {
    let reserved = ReservedPort::any();
    let variable = ("RBEE_QUEEN_PORT".to_owned(), reserved.port().to_string());
    world.environment.push(variable);
    world.reserved_ports.push(reserved);
}

/// Notes the port as `{port}`, and the port after it, which is free, as `{next_port}`.
#[given("a port that another process listens on")]
fn taken_port(world: &mut World) {
    let taken = TakenPort::any();
    world.noted.insert("port".into(), taken.port.to_string());
    let next = taken.next.port().to_string();
    world.noted.insert("next_port".into(), next);
    world.taken_ports.push(taken);
}

#[when(regex = r"^every `(.*)` process is killed$")]
async fn kill_all(world: &mut World, binary: String) {
    let processes = world.processes_of(&binary);
    assert!(
        !processes.is_empty(),
        "no {binary} is running: {:?}",
        world.processes()
    );
    for identity in processes {
        world.kill(identity).await;
    }
}

#[then(regex = r"^(\d+) `(.*)` process(?:es)? runs?$")]
async fn process_count(world: &mut World, count: usize, binary: String) {
    eventually(Duration::from_secs(30), || async {
        let found = world.processes_of(&binary).len();
        if found == count {
            Ok(())
        } else {
            let all = world.processes();
            Err(format!("{found} {binary} are running: {all:?}"))
        }
    })
    .await;
}

fn pids(world: &World, binary: &str) -> String {
    let processes = if binary.is_empty() {
        world.processes().into_keys().collect()
    } else {
        world.processes_of(binary)
    };
    let mut pids: Vec<u32> = processes.into_iter().map(|p| p.pid).collect();
    pids.sort_unstable();
    format!("{pids:?}")
}

#[when(regex = r"^I note the (?:`(.*)` )?processes$")]
fn note_processes(world: &mut World, binary: String) {
    let pids = pids(world, &binary);
    assert_ne!(pids, "[]", "{:?}", world.processes());
    world.noted.insert(format!("{binary} pids"), pids);
}

#[then(regex = r"^the same (?:`(.*)` )?processes run$")]
fn same_processes(world: &mut World, binary: String) {
    let noted = &world.noted[&format!("{binary} pids")];
    assert_eq!(pids(world, &binary), *noted, "{:?}", world.processes());
}

#[then("nothing is left running")]
async fn nothing_left(world: &mut World) {
    world.nothing_left().await;
}

#[when(regex = r"^the queen knows (\d+) ready workers?$")]
#[then(regex = r"^the queen knows (\d+) ready workers?$")]
async fn ready_workers(world: &mut World, count: usize) {
    let queen = world.queen();
    eventually(Duration::from_secs(30), || async {
        let list = queen.workers().await.map_err(|e| e.to_string())?;
        let ready = list
            .workers
            .iter()
            .filter(|w| w.availability == Availability::Available && w.info.slots_free > 0)
            .count();
        if ready == count {
            Ok(())
        } else {
            Err(format!("{ready} are ready: {:?}", list.workers))
        }
    })
    .await;
}

#[then("no request is running or waiting at the queen")]
async fn no_request(world: &mut World) {
    request_counts(world, 0, 0).await;
}

#[then(regex = r"^(\d+) requests? (?:is|are) running and (\d+) (?:is|are) waiting at the queen$")]
pub(super) async fn request_counts(world: &mut World, running: u64, waiting: u64) {
    let queen = world.queen();
    eventually(Duration::from_secs(10), || async {
        let counts = queen.status().await.map_err(|e| e.to_string())?.requests;
        if (counts.running, counts.waiting) == (running, waiting) {
            Ok(())
        } else {
            Err(format!("{counts:?}"))
        }
    })
    .await;
}

#[then(regex = r"^(\d+) requests? (?:was|were) cancelled and (\d+) failed$")]
async fn finished_counts(world: &mut World, cancelled: u64, failed: u64) {
    let counts = world.queen().status().await.unwrap().requests;
    assert_eq!(
        (counts.cancelled, counts.failed),
        (cancelled, failed),
        "{counts:?}"
    );
}
