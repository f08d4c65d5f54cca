use std::{collections::BTreeSet, time::Duration};

use bdd::{World, eventually};
use cucumber::{given, then, when};
use serde_json::Value;

#[given("no queen is running")]
fn no_queen(world: &mut World) {
    assert!(world.daemon("queen").is_none());
}

/// Id, pid and state of each worker in the hive's list.
#[derive(Debug, Default)]
struct Listed(BTreeSet<String>);

async fn listed(world: &World) -> Result<BTreeSet<String>, String> {
    let record = world.daemon("hive").ok_or("no hive is running")?;
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
async fn note_listed(world: &mut World) {
    let listed = listed(world).await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    world.get::<Listed>().0 = listed;
}

#[then("another hive runs with the same workers")]
async fn another_hive(world: &mut World) {
    let expected = std::mem::take(&mut world.get::<Listed>().0);
    assert!(!expected.is_empty());
    let killed = world.noted["killed_hive"].clone();
    let world = &*world;
    eventually(Duration::from_secs(30), || async {
        let record = world.daemon("hive").ok_or("no hive is running")?;
        if record.process.pid.to_string() == killed {
            return Err("the record is that of the killed hive".to_owned());
        }
        let listed = listed(world).await?;
        if listed == expected {
            Ok(())
        } else {
            Err(format!("{listed:?}, expected {expected:?}"))
        }
    })
    .await;
}

#[then("the home holds no record of a running daemon")]
fn no_record(world: &mut World) {
    for name in ["queen", "hive"] {
        let path = world.daemon_record(name);
        assert!(!path.exists(), "{} still exists", path.display());
    }
}
