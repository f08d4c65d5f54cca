//! Features 200, 205 and 208 with the real binaries.
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

mod steps;

use std::{fs, process::ExitCode, time::Duration};

use bdd::{World, eventually};
use cucumber::{gherkin::Step, given, then, when};
use queen_contract::{Availability, WorkerEntry};

/// Longer than the time after which a worker without heartbeats is removed.
const REPLACED_WITHIN: Duration = Duration::from_secs(60);

/// The process of a worker, by its node and pid.
type Process = (String, u32);

#[derive(Debug, Default)]
struct Noted(Vec<Process>);

async fn workers(world: &World) -> Result<Vec<WorkerEntry>, String> {
    let list = world.queen().workers().await.map_err(|e| e.to_string())?;
    let available = |entry: &WorkerEntry| entry.availability == Availability::Available;
    Ok(list.workers.into_iter().filter(available).collect())
}

fn processes(workers: &[WorkerEntry]) -> Vec<Process> {
    let processes = workers
        .iter()
        .map(|entry| (entry.info.hive_id.to_string(), entry.info.pid));
    processes.collect()
}

#[given("the worker is noted")]
async fn note(world: &mut World) {
    let running = processes(&workers(world).await.unwrap());
    assert_eq!(running.len(), 1);
    world.get::<Noted>().0 = running;
}

#[then(regex = "^(?:the same|a new) worker serves `(.*)`$")]
async fn serves(world: &mut World, step: &Step, model: String) {
    let noted = std::mem::take(&mut world.get::<Noted>().0);
    assert!(!noted.is_empty());
    let is_new = step.value.starts_with("a new");
    let model = world.fill(&model);
    let world = &*world;
    eventually(REPLACED_WITHIN, || async {
        let mut workers = workers(world).await?;
        workers.retain(|entry| entry.info.model_id.to_string() == model);
        let running = processes(&workers);
        let is_noted = running.iter().any(|process| noted.contains(process));
        if running.len() == 1 && is_noted != is_new {
            return Ok(());
        }
        Err(format!("{running:?} run, noted: {noted:?}"))
    })
    .await;
}

#[then(regex = r"^the worker has (\d+) slots$")]
async fn has_slots(world: &mut World, slots: u32) {
    let world = &*world;
    eventually(REPLACED_WITHIN, || async {
        let workers = workers(world).await?;
        match workers.as_slice() {
            [worker] if worker.info.slots_total == slots => Ok(()),
            workers => Err(format!("{workers:?}")),
        }
    })
    .await;
}

/// The limit for a change of the policy's file to be noticed.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

#[when("the policy holds")]
async fn policy_holds(world: &mut World, step: &Step) {
    let before = world.queen().policy().await.unwrap().script;
    write_policy(world, step);
    let world = &*world;
    eventually(NOTICED_WITHIN, || async {
        let now = world.queen().policy().await.map_err(|e| e.to_string())?;
        match (&now.script, &now.problem) {
            (script @ Some(_), None) if *script != before => Ok(()),
            _ => Err(format!("{now:?}")),
        }
    })
    .await;
}

#[when("the policy is changed to a script that cannot be used")]
async fn policy_is_broken(world: &mut World, step: &Step) {
    write_policy(world, step);
    let world = &*world;
    eventually(NOTICED_WITHIN, || async {
        let now = world.queen().policy().await.map_err(|e| e.to_string())?;
        now.problem.as_ref().map(drop).ok_or(format!("{now:?}"))
    })
    .await;
}

fn write_policy(world: &World, step: &Step) {
    let script = step.docstring.as_ref().unwrap();
    fs::write(world.files().policy(), script.trim_start_matches('\n')).unwrap();
}

#[tokio::main]
async fn main() -> ExitCode {
    bdd::run(&["200-scheduling", "205-split-models", "208-sleeping-nodes"]).await
}
