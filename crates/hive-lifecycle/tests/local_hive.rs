//! The lifecycle of the local hive, with small scripts in place of the hive binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a test fails by panicking"
)]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use axum::{Json, Router, http::StatusCode, routing::get};
use daemon_shell::ProcessIdentity;
use diagnostics::Code;
use hive_contract::API_VERSION;
use hive_lifecycle::{HiveHost as _, HiveState, HiveSupervisor, LocalHive};
use serde_json::json;
use state_files::{DaemonRecord, Home};
use tokio::{net::TcpListener, process::Command, time::timeout};

fn hive(dir: &Path, program: &Path) -> LocalHive {
    LocalHive {
        program: program.to_owned(),
        home: Home::open(Some(dir.to_owned())).unwrap(),
        port: 0,
        worker_ports: None,
        catalog: None,
        log: "info".into(),
    }
}

fn script(dir: &Path, text: &str) -> std::path::PathBuf {
    let path = dir.join("hive.sh");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

/// Serves `/v1/health` like a hive with this interface version.
async fn health_server(api_version: u32) -> String {
    serve(api_version, StatusCode::OK).await
}

/// Serves `/v1/health` like a hive; other calls have this status.
async fn serve(api_version: u32, others: StatusCode) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route(
        "/v1/health",
        get(move || async move {
            Json(
                json!({"status": "ok", "hive_id": "local", "version": "9.9.9",
                "api_version": api_version, "pid": 1}),
            )
        }),
    );
    let app = app.fallback(move || async move { others });
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn record(home: &Home, url: &str, process: ProcessIdentity) {
    DaemonRecord {
        process,
        url: url.to_owned(),
        version: "9.9.9".into(),
        api_version: API_VERSION,
        started_at: jiff::Timestamp::now(),
    }
    .write(&home.hive_record())
    .unwrap();
}

#[tokio::test]
async fn a_hive_that_exits_during_startup_is_noticed_at_once_with_its_last_log_lines() {
    let dir = tempfile::tempdir().unwrap();
    let program = script(dir.path(), "echo 'port 9200 is taken' >&2; exit 3");
    let hive = hive(dir.path(), &program);
    let error = timeout(Duration::from_secs(5), hive.ensure())
        .await
        .expect("noticed before the limit for startup")
        .unwrap_err();
    assert_eq!(error.code, Code::HiveStartFailed);
    assert_eq!(
        error.message,
        "the hive exited during startup: exit status: 3; its log ends with: port 9200 is taken"
    );
}

#[tokio::test]
async fn a_missing_binary_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = hive(dir.path(), Path::new("/nowhere/rbee-hive"))
        .ensure()
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::HiveNotInstalled);
    assert_eq!(
        error.message,
        "cannot start /nowhere/rbee-hive: No such file or directory (os error 2)"
    );
}

#[tokio::test]
async fn a_running_hive_is_used_unless_its_interface_version_differs() {
    let dir = tempfile::tempdir().unwrap();
    let hive = hive(dir.path(), Path::new("/nowhere/rbee-hive"));
    let url = health_server(API_VERSION).await;
    record(&hive.home, &url, ProcessIdentity::own());
    assert_eq!(hive.ensure().await.unwrap().client.base(), url);
    let other = health_server(77).await;
    record(&hive.home, &other, ProcessIdentity::own());
    let error = hive.ensure().await.unwrap_err();
    assert_eq!(error.code, Code::VersionIncompatible);
    let expected = format!(
        "the hive at {other} is version 9.9.9 (interface 77), this queen is version {} \
         (interface {API_VERSION})",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(error.message, expected);
}

#[tokio::test]
async fn a_hive_with_another_token_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let program = script(dir.path(), "echo 'a new hive' >&2; exit 3");
    let hive = hive(dir.path(), &program);
    let mut old = Command::new("sleep")
        .arg("600")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let url = serve(API_VERSION, StatusCode::UNAUTHORIZED).await;
    let process = ProcessIdentity::of(old.id().unwrap()).unwrap();
    record(&hive.home, &url, process);
    let (ensured, ended) = tokio::join!(hive.ensure(), old.wait());
    let error = ensured.unwrap_err();
    assert!(error.message.ends_with("a new hive"), "{error}");
    assert!(!ended.unwrap().success(), "the old one was terminated");
}

#[tokio::test]
async fn the_record_of_an_exited_hive_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let program = script(dir.path(), "exit 4");
    let hive = hive(dir.path(), &program);
    let reused_pid = ProcessIdentity {
        start_time: 1,
        ..ProcessIdentity::own()
    };
    record(&hive.home, "http://127.0.0.1:1", reused_pid);
    let error = hive.ensure().await.unwrap_err();
    assert_eq!(error.code, Code::HiveStartFailed, "a new hive was started");
}

#[tokio::test]
async fn a_hive_that_exits_is_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let url = health_server(API_VERSION).await;
    let mut first = Command::new("sleep")
        .arg("600")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let process = ProcessIdentity::of(first.id().unwrap()).unwrap();
    let program = script(dir.path(), "exit 5");
    let hive = hive(dir.path(), &program);
    record(&hive.home, &url, process);
    let supervisor = HiveSupervisor::start(Arc::new(hive.clone()));
    let mut state = supervisor.state();
    let limit = Duration::from_secs(10);
    timeout(limit, state.wait_for(|s| matches!(s, HiveState::Up(_))))
        .await
        .unwrap()
        .unwrap();
    first.kill().await.unwrap();
    timeout(limit, state.wait_for(|s| matches!(s, HiveState::Down(_))))
        .await
        .unwrap()
        .unwrap();
    record(&hive.home, &url, ProcessIdentity::own());
    timeout(
        limit,
        state.wait_for(|s| matches!(s, HiveState::Up(h) if h.process == ProcessIdentity::own())),
    )
    .await
    .unwrap()
    .unwrap();
}
