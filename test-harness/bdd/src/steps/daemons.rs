use std::{fs, time::Duration};

use cucumber::{given, then, when};
use daemon_shell::Signal;

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
    let record = world.daemon(&name).expect("it runs");
    world
        .noted
        .insert(format!("killed_{name}"), record.process.pid.to_string());
    world.signalled.insert(name, record.process);
    world.kill(record.process).await;
}

#[when(regex = r"^the (queen|hive) gets SIGTERM$")]
fn terminate_daemon(world: &mut World, name: String) {
    let record = world.daemon(&name).expect("it runs");
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

/// Notes it as `{port}`, and the port after it, which is free, as `{next_port}`.
#[given("a port that another process listens on")]
fn taken_port(world: &mut World) {
    let taken = TakenPort::any();
    world.noted.insert("port".into(), taken.port.to_string());
    let next = taken.next.port().to_string();
    world.noted.insert("next_port".into(), next);
    world.taken_ports.push(taken);
}

#[when(regex = r"^every `(.*)` process is killed$")]
async fn kill_program(world: &mut World, program: String) {
    let processes = world.processes_of(&program);
    assert!(
        !processes.is_empty(),
        "no {program} runs: {:?}",
        world.processes()
    );
    for identity in processes {
        world.kill(identity).await;
    }
}

#[then(regex = r"^(\d+) `(.*)` process(?:es)? runs?$")]
async fn count_program(world: &mut World, count: usize, program: String) {
    eventually(Duration::from_secs(10), || async {
        let found = world.processes_of(&program).len();
        if found == count {
            Ok(())
        } else {
            Err(format!("{found} {program} run: {:?}", world.processes()))
        }
    })
    .await;
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
            .filter(|w| {
                w.availability == queen_contract::Availability::Available && w.info.slots_free > 0
            })
            .count();
        if ready == count {
            Ok(())
        } else {
            Err(format!("{ready} ready of {:?}", list.workers))
        }
    })
    .await;
}

#[then("no request is running or waiting at the queen")]
async fn queen_idle(world: &mut World) {
    let queen = world.queen();
    eventually(Duration::from_secs(10), || async {
        let status = queen.status().await.map_err(|e| e.to_string())?;
        if status.requests.running == 0 && status.requests.waiting == 0 {
            Ok(())
        } else {
            Err(format!("{:?}", status.requests))
        }
    })
    .await;
}

#[given(regex = r"^the file `(.*)` holds$")]
#[when(regex = r"^the file `(.*)` holds$")]
fn write_file(world: &mut World, path: String, step: &cucumber::gherkin::Step) {
    let path = world.fill(&path);
    fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
    fs::write(path, step.docstring.clone().unwrap_or_default()).unwrap();
}

#[then(regex = r"^the file `(.*)` (exists|does not exist)$")]
fn file_exists(world: &mut World, path: String, verb: String) {
    let path = world.fill(&path);
    assert_eq!(fs::exists(&path).unwrap(), verb == "exists", "{path}");
}

#[then(regex = r"^the file `(.*)` contains `(.*)`$")]
async fn file_contains(world: &mut World, path: String, text: String) {
    let path = world.fill(&path);
    eventually(Duration::from_secs(5), || async {
        let content = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        if content.contains(&text) {
            Ok(())
        } else {
            Err(format!("no `{text}` in {path}:\n{content}"))
        }
    })
    .await;
}
