use std::{fs, path::Path, process::Stdio, time::Duration};

use bdd::{World, eventually};
use cucumber::{given, then, when};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Command;

use super::{State, process_of, record, worker, worker_dir};

const LIMIT: Duration = Duration::from_secs(10);

#[when(regex = r"^the process of (\S+) is killed$")]
async fn kill(world: &mut World, id: String) {
    let process = process_of(world, &id);
    world
        .noted
        .insert(format!("{id}_pid"), process.pid.to_string());
    world.kill(process).await;
}

#[given(regex = r"^the process of (\S+) is frozen$")]
pub fn freeze(world: &mut World, id: String) {
    let pid = i32::try_from(process_of(world, &id).pid).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
}

#[then(regex = r"^the process of (\S+) is not a zombie$")]
async fn not_a_zombie(world: &mut World, id: String) {
    let path = format!("/proc/{}", world.noted[&format!("{id}_pid")]);
    eventually(LIMIT, || async {
        match fs::read_to_string(format!("{path}/stat")) {
            Ok(stat) => Err(stat),
            Err(_) => Ok(()),
        }
    })
    .await;
}

#[when(regex = r"^another process has the pid in the record of (\S+)$")]
async fn reuse_pid(world: &mut World, id: String) {
    // The hive records the exit first, or it would replace what is written here.
    eventually(LIMIT, || async {
        record(world, &id)
            .ended_at
            .ok_or("its exit is not recorded")
    })
    .await;
    let other = Command::new("sleep")
        .arg("600")
        .envs(world.inherited())
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut record = record(world, &id);
    record.process.as_mut().expect("it was started").pid = other.id().unwrap();
    record.ended_at = None;
    record.write(&worker_dir(world, &id)).unwrap();
    world.get::<State>().other = Some(other);
}

#[then("the other process is still running")]
fn other_runs(world: &mut World) {
    let other = world.get::<State>().other.as_mut();
    let other = other.expect("it was started");
    assert_eq!(other.try_wait().unwrap(), None);
}

#[when(regex = r"^the record of (\S+) is (cut in half|empty|not JSON|changed in one bit)$")]
fn damage(world: &mut World, id: String, how: String) {
    let path = worker_dir(world, &id).spawn_record();
    let mut bytes = fs::read(&path).unwrap();
    match how.as_str() {
        "cut in half" => bytes.truncate(bytes.len() / 2),
        "empty" => bytes.clear(),
        "not JSON" => bytes = b"\0\x1b[31m".to_vec(),
        _ => {
            // The pid then has another digit, and the record is still valid JSON.
            let text = String::from_utf8(bytes.clone()).unwrap();
            let at = text.find("\"pid\": ").unwrap() + "\"pid\": ".len();
            bytes[at] ^= 1;
        }
    }
    fs::write(&path, bytes).unwrap();
}

#[when(regex = r"^the record of (\S+) is that of (\S+)$")]
fn replace(world: &mut World, id: String, other: String) {
    let (own, other) = (worker_dir(world, &id), worker_dir(world, &other));
    fs::copy(other.spawn_record(), own.spawn_record()).unwrap();
}

fn change_record(world: &World, id: &str, change: impl FnOnce(&mut Value)) {
    let path = worker_dir(world, id).spawn_record();
    let mut json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

#[when(regex = r"^the record of (\S+) has no format number$")]
fn without_format(world: &mut World, id: String) {
    change_record(world, &id, |json| {
        let fields = json.as_object_mut().unwrap();
        fields.remove("format").expect("a format");
        fields.remove("checksum").expect("a checksum");
    });
}

#[when(regex = r"^the record of (\S+) has the format number (\d+)$")]
fn with_format(world: &mut World, id: String, format: u64) {
    change_record(world, &id, |json| json["format"] = format.into());
    let text = fs::read_to_string(worker_dir(world, &id).spawn_record()).unwrap();
    world.noted.insert(format!("{id}_record"), text);
}

#[then(regex = r"^the record of (\S+) is unchanged$")]
fn same_record(world: &mut World, id: String) {
    let text = fs::read_to_string(worker_dir(world, &id).spawn_record()).unwrap();
    assert_eq!(text, world.noted[&format!("{id}_record")]);
}

#[then(regex = r"^(\S+) runs in a process group of its own$")]
fn own_group(world: &mut World, id: String) {
    let pid = process_of(world, &id).pid;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let group = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(2);
    assert_eq!(group, Some(pid.to_string().as_str()));
}

#[then(regex = r"^neither the command line nor the record of (\S+) contains the token$")]
fn no_token(world: &mut World, id: String) {
    let proc = format!("/proc/{}", process_of(world, &id).pid);
    let token = world.node_token();
    for file in ["cmdline", "environ"] {
        let text = fs::read(Path::new(&proc).join(file)).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(!text.is_empty() && !text.contains(&token), "{file}");
    }
    let record = fs::read_to_string(worker_dir(world, &id).spawn_record()).unwrap();
    assert!(!record.contains(&token));
}

#[then(regex = r"^the record of (\S+) has the last exit `(.*)`$")]
async fn recorded_exit(world: &mut World, id: String, expected: String) {
    eventually(LIMIT, || async {
        match record(world, &id).last_exit {
            Some(exit) if exit == expected => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Waits until the worker's `/ready` responds as expected.
async fn readiness(world: &World, id: &str, expected: bool) {
    eventually(LIMIT, || async {
        if !worker_dir(world, id).spawn_record().exists() {
            return Err("it is not spawned".to_owned());
        }
        let ready = worker(world, id).ready().await;
        let ready = ready.map_err(|e| e.to_string())?;
        if ready.ready == expected {
            Ok(())
        } else {
            Err(format!("{ready:?}"))
        }
    })
    .await;
}

#[then(regex = r"^(\S+) is ready$")]
async fn is_ready(world: &mut World, id: String) {
    let ready = worker(world, &id).ready().await.unwrap();
    assert!(ready.ready, "{ready:?}");
}

#[then(regex = r"^(\S+) becomes ready$")]
async fn becomes_ready(world: &mut World, id: String) {
    readiness(world, &id, true).await;
}

#[when(regex = r"^(\S+) is loading$")]
#[then(regex = r"^(\S+) is loading$")]
async fn is_loading(world: &mut World, id: String) {
    readiness(world, &id, false).await;
}
