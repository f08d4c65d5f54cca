use std::{fs, path::Path, process::Stdio, time::Duration};

use bdd::{World, eventually};
use cucumber::{given, then, when};
use daemon_shell::ProcessIdentity;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use super::{Seen, process_of, record, token, worker, worker_dir};

const SOON: Duration = Duration::from_secs(10);

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

#[then(regex = r"^the process of (\S+) is no zombie$")]
async fn no_zombie(world: &mut World, id: String) {
    let path = format!("/proc/{}", world.noted[&format!("{id}_pid")]);
    eventually(SOON, || async {
        match fs::read_to_string(format!("{path}/stat")) {
            Ok(stat) => Err(stat),
            Err(_) => Ok(()),
        }
    })
    .await;
}

#[when(regex = r"^another program has the pid that the record of (\S+) names$")]
async fn reuse(world: &mut World, id: String) {
    // The reaper's note comes first, or it would replace what is written here.
    eventually(SOON, || async {
        record(world, &id)
            .ended_at
            .ok_or("it is not noted as ended")
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
    world.get::<Seen>().other = Some(other);
}

#[then("the other program still runs")]
fn other_runs(world: &mut World) {
    let other = world.get::<Seen>().other.as_mut().expect("it was started");
    assert_eq!(other.try_wait().unwrap(), None);
}

#[when(regex = r"^the record of (\S+) is (.+)$")]
fn damage(world: &mut World, id: String, how: String) {
    let path = worker_dir(world, &id).spawn_record();
    let intact = fs::read_to_string(&path).unwrap();
    let damaged = match how.as_str() {
        "cut in half" => intact[..intact.len() / 2].to_owned(),
        "empty" => String::new(),
        "no JSON" => "\u{0}\u{1b}[31m".to_owned(),
        "that of w-2" => fs::read_to_string(worker_dir(world, "w-2").spawn_record()).unwrap(),
        other => panic!("{other}?"),
    };
    fs::write(path, damaged).unwrap();
}

#[then(regex = r"^(\S+) runs in a process group of its own$")]
fn own_group(world: &mut World, id: String) {
    let pid = process_of(world, &id).pid;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let group = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(2);
    assert_eq!(group, Some(pid.to_string().as_str()));
}

#[then(regex = r"^the command line of (\S+) holds no secret$")]
fn no_secret(world: &mut World, id: String) {
    let proc = format!("/proc/{}", process_of(world, &id).pid);
    let secret = token(world);
    for file in ["cmdline", "environ"] {
        let text = fs::read(Path::new(&proc).join(file)).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(!text.is_empty() && !text.contains(&secret), "{file}");
    }
    let spawn_json = fs::read_to_string(worker_dir(world, &id).spawn_record()).unwrap();
    assert!(!spawn_json.contains(&secret));
}

#[then(regex = r"^the record of (\S+) tells `(.*)`$")]
async fn record_tells(world: &mut World, id: String, text: String) {
    eventually(SOON, || async {
        let last_exit = record(world, &id).last_exit.unwrap_or_default();
        if last_exit.contains(&text) {
            Ok(())
        } else {
            Err(format!("no `{text}` in `{last_exit}`"))
        }
    })
    .await;
}

/// Waits until the worker's `/ready` says so; before it listens it says nothing.
async fn readiness(world: &World, id: &str, expected: bool) {
    eventually(SOON, || async {
        if !worker_dir(world, id).spawn_record().exists() {
            return Err("it is not spawned".to_owned());
        }
        let answer = worker(world, id).ready().await;
        let ready = answer.map_err(|e| e.to_string())?;
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

#[then(regex = r"^0 `sleep` commands run$")]
async fn no_sleep(world: &mut World) {
    eventually(SOON, || async {
        let all = world.processes();
        let left: Vec<&ProcessIdentity> = all
            .iter()
            .filter(|(_, line)| line.starts_with("sleep"))
            .map(|(process, _)| process)
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
    .await;
}
