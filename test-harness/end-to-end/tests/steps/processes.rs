use std::{collections::BTreeSet, time::Duration};

use bdd::{World, eventually};
use cucumber::{given, then, when};
use daemon_shell::ProcessIdentity;
use serde_json::Value;

/// Processes as they were when a step looked.
#[derive(Debug, Default)]
struct Noted {
    all: BTreeSet<u32>,
    workers: BTreeSet<u32>,
    hive_lists: BTreeSet<String>,
}

fn pids(identities: impl IntoIterator<Item = ProcessIdentity>) -> BTreeSet<u32> {
    identities.into_iter().map(|i| i.pid).collect()
}

#[given("no queen runs")]
fn no_queen(world: &mut World) {
    assert!(world.daemon("queen").is_none());
}

#[when("I note the processes")]
fn note(world: &mut World) {
    let all = pids(world.processes().into_keys());
    let workers = pids(world.processes_of("llm-cpu-worker-rbee"));
    assert!(!workers.is_empty());
    let noted = world.get::<Noted>();
    noted.all = all;
    noted.workers = workers;
}

#[then("the same processes run")]
fn same(world: &mut World) {
    let now = pids(world.processes().into_keys());
    assert_eq!(world.get::<Noted>().all, now);
}

#[then("the worker processes are those noted")]
fn same_workers(world: &mut World) {
    let now = pids(world.processes_of("llm-cpu-worker-rbee"));
    assert_eq!(world.get::<Noted>().workers, now);
}

/// What the hive itself says: worker, pid and state.
async fn hive_list(world: &World) -> Result<BTreeSet<String>, String> {
    let record = world.daemon("hive").ok_or("no hive runs")?;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let list: Value = client
        .get(format!("{}/v1/workers", record.url))
        .bearer_auth(world.node_token())
        .send()
        .await
        .map_err(|e| e.to_string())?
        .json()
        .await
        .map_err(|e| e.to_string())?;
    let workers = list["workers"].as_array().ok_or("no list")?;
    Ok(workers
        .iter()
        .map(|w| format!("{} {} {}", w["worker_id"], w["pid"], w["state"]))
        .collect())
}

#[when("I note the workers of the hive")]
async fn note_hive(world: &mut World) {
    let list = hive_list(world).await.unwrap();
    assert_eq!(list.len(), 1, "{list:?}");
    world.get::<Noted>().hive_lists = list;
}

#[then("a hive runs again with the same workers")]
async fn hive_again(world: &mut World) {
    let expected = std::mem::take(&mut world.get::<Noted>().hive_lists);
    let killed = world.noted["killed_hive"].clone();
    let world = &*world;
    eventually(Duration::from_secs(30), || async {
        let record = world.daemon("hive").ok_or("no hive runs")?;
        if record.process.pid.to_string() == killed {
            return Err("it is the old one".to_owned());
        }
        let list = hive_list(world).await?;
        if list == expected {
            Ok(())
        } else {
            Err(format!("{list:?}, expected {expected:?}"))
        }
    })
    .await;
}

#[then("the home holds no record of a running daemon")]
fn no_record(world: &mut World) {
    for name in ["queen", "hive"] {
        let path = world.daemon_record(name);
        assert!(!path.exists(), "{} is left", path.display());
    }
}
