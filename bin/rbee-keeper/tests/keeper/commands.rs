//! The other commands against a queen of a few lines, and command lines that are wrong.

use std::{fs, time::Duration};

use crate::fake::{FakeQueen, LIMIT, Then, answer, ended, ended_child, keeper};
use daemon_shell::{ProcessIdentity, Token};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use state_files::{DaemonRecord, Home};

async fn queen() -> FakeQueen {
    FakeQueen::start(answer(), Then::Close).await
}

#[tokio::test]
async fn every_command_is_a_table_or_one_json_document() {
    let queen = queen().await;
    for (arguments, shown, pointer, value) in [
        (
            &["worker", "list"][..],
            "w-1     builtin:haiku",
            "/workers/0/id",
            "w-1",
        ),
        (
            &["worker", "show", "w-1"],
            "device        CPU-0",
            "/device",
            "CPU-0",
        ),
        (
            &["worker", "logs", "w-1"],
            "one\ntwo",
            "/log",
            "one\ntwo\u{1b}[31m\n",
        ),
        (
            &["worker", "stop", "w-1"],
            "stopped worker w-1",
            "/stopped/0",
            "w-1",
        ),
        (
            &["status"],
            "requests: 0 waiting, 1 running",
            "/queen/status",
            "ok",
        ),
        (
            &["queen", "status"],
            "queen 0.1.0 runs at http",
            "/version",
            "0.1.0",
        ),
    ] {
        let text = ended(queen.keeper(arguments)).await;
        assert_eq!(
            (text.code, text.err.as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
        assert!(text.out.contains(shown), "{}", text.out);
        let json = ended(queen.keeper(&[arguments, &["--json"]].concat())).await;
        assert_eq!(
            (json.code, json.err.as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
        let document: Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(document.pointer(pointer).unwrap(), value, "{document}");
    }
    assert_eq!(*queen.seen.stopped.lock().unwrap(), ["w-1", "w-1"]);
    assert_eq!(
        ended(queen.keeper(&["model", "list"])).await.out,
        "no models\n"
    );
}

#[tokio::test]
async fn a_failure_is_one_json_document_too() {
    let queen = queen().await;
    let ended = ended(queen.keeper(&["worker", "show", "w-9", "--json"])).await;
    assert_eq!(ended.code, Some(1));
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(document["error"]["code"], "WORKER_NOT_FOUND");
    assert_eq!(
        ended.err,
        "error: no such worker: w-9\n\nhint: `rbee-keeper worker list` shows them\n"
    );
}

#[tokio::test]
async fn the_token_is_the_one_of_the_file_and_never_the_homes_own() {
    let queen = queen().await;
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(Some(dir.path().to_owned())).unwrap();
    Token::load_or_create(&home.queen_token()).unwrap();
    let home = home.path().to_str().unwrap();
    assert_eq!(
        ended(queen.keeper(&["status", "--home", home])).await.code,
        Some(0)
    );
    let file = dir.path().join("token");
    fs::write(&file, "t".repeat(20)).unwrap();
    let with_token = ["status", "--token-file", file.to_str().unwrap()];
    assert_eq!(ended(queen.keeper(&with_token)).await.code, Some(0));
    let sent = queen.seen.tokens.lock().unwrap();
    assert_eq!(*sent, [None, Some(format!("Bearer {}", "t".repeat(20)))]);
}

#[tokio::test]
async fn a_queen_elsewhere_is_neither_started_nor_stopped() {
    let queen = queen().await;
    for arguments in [&["queen", "start"], &["queen", "stop"], &["queen", "logs"]] {
        let ended = ended(queen.keeper(arguments)).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(
            ended.err.contains("is not managed from here"),
            "{}",
            ended.err
        );
        assert!(
            ended.err.contains("\n\nhint: leave out `--queen`"),
            "{}",
            ended.err
        );
    }
    let gone = ended(keeper(&["--queen", "http://127.0.0.1:0", "infer", "Hi"])).await;
    assert_eq!(gone.code, Some(1));
    assert!(gone.err.contains("does not answer"), "{}", gone.err);
}

#[tokio::test]
async fn the_queen_of_a_home_is_found_by_its_record() {
    let queen = queen().await;
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(Some(dir.path().to_owned())).unwrap();
    let token = Token::load_or_create(&home.queen_token()).unwrap();
    let record = DaemonRecord {
        process: ProcessIdentity::own(),
        url: queen.url.clone(),
        version: "0.1.0".into(),
        api_version: 1,
        started_at: Timestamp::UNIX_EPOCH,
    };
    record.write(&home.queen_record()).unwrap();
    let home = home.path().to_str().unwrap();
    assert_eq!(
        ended(keeper(&["--home", home, "status"])).await.code,
        Some(0)
    );
    let sent = queen.seen.tokens.lock().unwrap().clone();
    assert_eq!(sent, [Some(format!("Bearer {}", token.expose()))]);
    let answered = ended(keeper(&["--home", home, "infer", "Hi"])).await;
    assert_eq!(answered.out, "An old silent pond\n");
    assert!(
        !answered.err.contains("keeps running"),
        "it was not started here"
    );
}

#[tokio::test]
async fn without_a_queen_the_way_to_one_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().to_str().unwrap();
    for command in [&["status"][..], &["worker", "list"], &["queen", "status"]] {
        let ended = ended(keeper(&[&["--home", home], command].concat())).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""));
        assert!(
            ended
                .err
                .starts_with("error: no queen is running\n\nhint: "),
            "{}",
            ended.err
        );
    }
    let stopped = ended(keeper(&["--home", home, "queen", "stop"])).await;
    assert_eq!(
        (stopped.code, stopped.out.as_str()),
        (Some(0), "no queen is running\n")
    );
    let json = ended(keeper(&["--home", home, "queen", "stop", "--json"])).await;
    assert_eq!(
        serde_json::from_str::<Value>(&json.out).unwrap()["queen"],
        Value::Null
    );
}

#[tokio::test]
async fn a_second_ctrl_c_ends_it_at_once_and_what_it_was_starting() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("slow-queen");
    let text = dir.path().join("text");
    fs::write(&text, "#!/bin/sh\necho $$ > pid; exec sleep 600\n").unwrap();
    // Copied by another process: a file that this one has open for writing, or a child of
    // another test for the moment before its exec, cannot be run.
    let install = std::process::Command::new("install")
        .args(["-m", "700"])
        .args([&text, &program])
        .status();
    assert!(install.unwrap().success());
    let home = dir.path().join("home");
    let child = keeper(&[
        "--home",
        home.to_str().unwrap(),
        "--queen-binary",
        program.to_str().unwrap(),
        "infer",
        "--ephemeral",
        "Hi",
    ])
    .env("PATH", "/usr/bin:/bin")
    .spawn()
    .unwrap();
    let started = async {
        loop {
            if let Ok(text) = fs::read_to_string(home.join("pid"))
                && let Ok(pid) = text.trim().parse()
            {
                break ProcessIdentity::of(pid).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let queen = tokio::time::timeout(LIMIT, started).await.unwrap();
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    // Interrupts that come close together count as one, so they go on until it ends; a start
    // that is not given up would take 20 s.
    let (done, mut ends) = tokio::sync::oneshot::channel();
    tokio::spawn(async move { done.send(ended_child(child).await).unwrap() });
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    let mut sent = 0;
    let ended = loop {
        tokio::select! {
            ended = &mut ends => break ended.unwrap(),
            _ = beat.tick() => {
                if sent == 1 {
                    assert!(queen.is_alive(), "the first leaves it to be ended in order");
                }
                let _ = kill_process(pid, Signal::INT);
                sent += 1;
            }
        }
    };
    assert!((2..50).contains(&sent), "{sent} interrupts");
    assert_eq!(ended.code, Some(130), "{ended:?}");
    tokio::time::timeout(LIMIT, queen.gone()).await.unwrap();
}

#[tokio::test]
async fn wrong_usage_exits_2_and_help_exits_0() {
    for arguments in [
        &["infer", "--model", "haiku", "Hi"][..],
        &["infer", "--nonsense", "Hi"],
        &["worker", "show", "../x"],
        &["nonsense"],
        &[],
    ] {
        let ended = ended(keeper(arguments)).await;
        assert_eq!(
            (ended.code, ended.out.as_str()),
            (Some(2), ""),
            "{arguments:?}"
        );
        assert!(!ended.err.is_empty() && !ended.err.contains('\u{1b}'));
    }
    let hostile = ended(keeper(&["infer", "--model", "\u{1b}[31mx\u{7}", "Hi"])).await;
    assert!(hostile.err.starts_with("error: "), "{}", hostile.err);
    assert!(
        !hostile.err.contains(['\u{1b}', '\u{7}']),
        "{}",
        hostile.err
    );
    let help = ended(keeper(&["infer", "--help"])).await;
    assert_eq!(help.code, Some(0));
    assert!(
        help.out.contains("Examples:\n  rbee-keeper infer "),
        "{}",
        help.out
    );
    assert!(help.out.contains("--ephemeral"));
    let version = ended(keeper(&["--version"])).await;
    assert_eq!(
        version.out,
        format!("rbee-keeper {}\n", env!("CARGO_PKG_VERSION"))
    );
    let script = ended(keeper(&["completions", "bash"])).await;
    assert!(script.code == Some(0) && script.out.contains("complete -F "));
}
