use std::{fs, time::Duration};

use cucumber::{given, then, when};
use daemon_shell::Signal;
use state_files::DaemonRecord;

use crate::{World, eventually, within};

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
    world.kill(record.process).await;
}

#[when(regex = r"^the (queen|hive) gets SIGTERM$")]
fn terminate_daemon(world: &mut World, name: String) {
    let record = world.daemon(&name).expect("it runs");
    record.process.signal(Signal::Term).unwrap();
}

#[then(regex = r"^the (queen|hive) ends within (\d+) s$")]
async fn daemon_ends(world: &mut World, name: String, seconds: u64) {
    if let Some(record) = DaemonRecord::read(&world.daemon_record(&name)).unwrap() {
        within(Duration::from_secs(seconds), &name, record.process.gone()).await;
    }
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
