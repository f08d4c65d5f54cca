use std::{
    fs,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    routing::{get, post},
};
use daemon_shell::{Signal, write_atomically};
use diagnostics::Code;
use jiff::Timestamp;

use super::*;

/// A home whose queen binary is a shell script.
fn home_with(script: &str) -> (tempfile::TempDir, QueenLifecycle) {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("queen-rbee");
    let text = dir.path().join("text");
    fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
    // Another process copies it. A descriptor of this process that is open for writing could be
    // inherited by a child of another test, and the script could not run.
    let install = std::process::Command::new("install")
        .args(["-m", "700"])
        .args([&text, &program])
        .status();
    assert!(install.unwrap().success());
    let home = Home::open(Some(dir.path().join("home"))).unwrap();
    let launch = Launch {
        program,
        port: 0,
        hive_port: None,
        worker_ports: None,
    };
    (dir, QueenLifecycle::new(home, launch))
}

fn record_of(process: ProcessIdentity, api_version: u32) -> DaemonRecord {
    DaemonRecord {
        process,
        // Nothing can listen on port 0.
        url: "http://127.0.0.1:0".into(),
        version: "9.9.9".into(),
        api_version,
        started_at: Timestamp::UNIX_EPOCH,
    }
}

/// Serves as the queen for the process of [`SCRIPT`], once that is running. A shutdown request
/// kills the process.
async fn serve_for_the_script(queen: &QueenLifecycle) -> ProcessIdentity {
    let pid_file = queen.home.path().join("pid");
    let process = loop {
        if let Ok(text) = fs::read_to_string(&pid_file)
            && let Ok(pid) = text.trim().parse()
        {
            break ProcessIdentity::of(pid).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let health = serde_json::json!({
        "status": "ok", "version": "9.9.9", "api_version": API_VERSION, "pid": process.pid
    });
    let shutdown = move || async move {
        process.signal(Signal::Kill).unwrap();
        Json(serde_json::json!({"stopped": ["stopped worker w-1"]}))
    };
    let router = Router::new()
        .route("/health", get(async move || Json(health.clone())))
        .route("/v1/shutdown", post(shutdown));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    let token = queen.home.queen_token();
    write_atomically(&token, "t".repeat(64).as_bytes()).unwrap();
    let mut record = record_of(process, API_VERSION);
    record.url = format!("http://{address}");
    record.write(&queen.home.queen_record()).unwrap();
    process
}

const SCRIPT: &str = "echo $$ >> starts; echo $$ > new && mv new pid; exec sleep 600";

#[tokio::test]
async fn concurrent_calls_start_one_queen_and_stop_stops_it() {
    let (_dir, queen) = home_with(SCRIPT);
    let (first, second, third, process) = tokio::join!(
        queen.ensure(),
        queen.ensure(),
        queen.ensure(),
        serve_for_the_script(&queen)
    );
    let queens = [first.unwrap(), second.unwrap(), third.unwrap()];
    assert_eq!(queens.iter().filter(|q| q.started_by_us).count(), 1);
    assert!(queens.iter().all(|q| q.process == process));
    let starts = fs::read_to_string(queen.home.path().join("starts")).unwrap();
    assert_eq!(starts.lines().count(), 1);
    assert!(!queen.find().await.unwrap().unwrap().started_by_us);

    let stopped = queen.stop(true, None).await.unwrap().unwrap();
    assert_eq!(stopped.ending, Ending::Shutdown);
    assert_eq!(stopped.stopped, ["stopped worker w-1"]);
    assert!(!process.is_alive() && !queen.home.queen_record().exists());
}

#[tokio::test]
async fn the_record_of_an_earlier_queen_is_not_that_of_the_new_one() {
    let (_dir, queen) = home_with(SCRIPT);
    let mut dead = ProcessIdentity::own();
    dead.start_time += 1;
    record_of(dead, API_VERSION + 1)
        .write(&queen.home.queen_record())
        .unwrap();
    let (ensured, process) = tokio::join!(queen.ensure(), serve_for_the_script(&queen));
    assert_eq!(ensured.unwrap().process, process);
    queen.stop(true, None).await.unwrap();
}

#[tokio::test]
async fn an_exit_during_startup_is_reported_at_once_with_the_log() {
    let (_dir, queen) = home_with("echo starting; echo giving up >&2; exit 3");
    let begun = Instant::now();
    let error = queen.ensure().await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(error.code, Code::QueenStartFailed);
    assert_eq!(
        error.message,
        "the queen exited during startup (exit status: 3); its log ends with:\n  starting\n  giving up"
    );
    assert_eq!(queen.logs(1).unwrap(), "giving up\n");
}

#[tokio::test]
async fn a_missing_binary_is_named_in_the_error() {
    let (dir, queen) = home_with("");
    fs::remove_file(dir.path().join("queen-rbee")).unwrap();
    let error = queen.ensure().await.unwrap_err();
    assert!(error.message.contains("/queen-rbee"), "{error}");
    assert!(error.hint.unwrap().contains("`--queen-binary`"));
}

#[tokio::test]
async fn an_abandoned_start_terminates_the_queen() {
    let (dir, queen) = home_with("echo $$ > pid; exec sleep 600");
    let pid_file = dir.path().join("home/pid");
    let pid = tokio::select! {
        outcome = queen.ensure() => panic!("a sleeping script is not a queen: {outcome:?}"),
        pid = async {
            loop {
                if let Ok(text) = fs::read_to_string(&pid_file)
                    && let Ok(pid) = text.trim().parse::<u32>()
                {
                    break pid;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => pid,
    };
    if let Some(process) = ProcessIdentity::of(pid) {
        timeout(Duration::from_secs(10), process.gone())
            .await
            .unwrap();
    }
    // A child of another test may hold a copy of the lock's descriptor until its exec.
    let free = timeout(Duration::from_secs(10), queen.lock()).await;
    assert!(free.unwrap().is_ok());
}

#[tokio::test]
async fn the_record_of_a_dead_process_counts_as_none_and_is_removed_by_stop() {
    let (_dir, queen) = home_with("");
    let mut dead = ProcessIdentity::own();
    dead.start_time += 1;
    record_of(dead, API_VERSION)
        .write(&queen.home.queen_record())
        .unwrap();
    assert!(queen.find().await.unwrap().is_none());
    assert_eq!(queen.stop(true, None).await.unwrap(), None);
    assert!(!queen.home.queen_record().exists());
}

#[tokio::test]
async fn a_version_mismatch_names_both_versions() {
    let (_dir, queen) = home_with("");
    record_of(ProcessIdentity::own(), API_VERSION + 1)
        .write(&queen.home.queen_record())
        .unwrap();
    let error = queen.ensure().await.unwrap_err();
    assert_eq!(error.code, Code::VersionIncompatible);
    assert_eq!(
        error.message,
        format!(
            "the running queen 9.9.9 speaks interface version {}, this rbee-keeper {} speaks interface version {API_VERSION}",
            API_VERSION + 1,
            env!("CARGO_PKG_VERSION")
        )
    );
}

#[tokio::test]
async fn a_queen_that_does_not_listen_gets_sigterm() {
    let (_dir, queen) = home_with("");
    let mut child = tokio::process::Command::new("sleep")
        .arg("600")
        .spawn()
        .unwrap();
    let process = ProcessIdentity::of(child.id().unwrap()).unwrap();
    record_of(process, API_VERSION)
        .write(&queen.home.queen_record())
        .unwrap();
    write_atomically(&queen.home.queen_token(), "t".repeat(64).as_bytes()).unwrap();
    let stopped = queen.stop(true, None).await.unwrap().unwrap();
    assert_eq!(stopped.ending, Ending::Terminated);
    assert_eq!(stopped.refused.unwrap().code, Code::QueenUnreachable);
    assert!(!process.is_alive());
    assert!(!queen.home.queen_record().exists());
    child.wait().await.unwrap();
}
