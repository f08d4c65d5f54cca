//! Commands other than `infer`, against a fake queen or without one.

use std::{fs, time::Duration};

use daemon_shell::{ProcessIdentity, Token};
use jiff::Timestamp;
use queen_contract::{ModelList, Status, WorkerEntry, WorkerList};
use rustix::{
    fs::{CWD, Mode, mkfifoat},
    process::{Pid, Signal, kill_process},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use state_files::{DaemonRecord, Home};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::unix::pipe,
};

use crate::fake::{
    FakeQueen, Finished, LIMIT, LOG, Then, finish, health, keeper, model, response, run, status,
    worker,
};

const NO_QUEEN: &str = "error: no queen is running\n\n\
    hint: start a queen with `rbee-keeper queen start`; `rbee-keeper infer` also starts one\n";

async fn queen() -> FakeQueen {
    FakeQueen::start(response(), Then::Close).await
}

/// Returns the document that the keeper prints for `json`, which it parses as a `T`.
fn document<T: Serialize + DeserializeOwned>(json: Value) -> String {
    let parsed: T = serde_json::from_value(json).unwrap();
    serde_json::to_string_pretty(&parsed).unwrap() + "\n"
}

#[tokio::test]
async fn results_are_text_or_one_json_document() {
    let queen = queen().await;
    let (url, pid) = (&queen.url, std::process::id());
    let workers = "WORKER  MODEL          NODE   DEVICE  STATUS  FREE SLOTS  REQUESTS  MEMORY\n\
                   w-1     builtin:haiku  local  CPU-0   ready   3/4         1         1.0 KiB\n";
    let properties = "worker        w-1\n\
                      status        ready\n\
                      model         builtin:haiku\n\
                      node          local\n\
                      device        CPU-0\n\
                      process       pid 42, port 8081\n\
                      generation    3\n\
                      engine        rbee-candle 0.1.0\n\
                      capabilities  \n\
                      slots         3 of 4 free\n\
                      requests      1 running, 0 queued\n\
                      context       512 tokens\n\
                     sampling      -\n\
                      KV cache      0 of 0 tokens used\n\
                      memory        1.0 KiB\n\
                      heartbeat     120 ms ago\n";
    let models = "MODEL          SIZE     ARCHITECTURE  QUANTIZATION  PARAMETERS  CONTEXT  SAMPLING  NODES  READY WORKERS\n\
         builtin:haiku  5.5 MiB  llama         F16           2.9M        512      -         local  1\n";
    let mut queen_status = json!({"url": url});
    for field in ["pid", "version", "api_version"] {
        queen_status[field] = health()[field].clone();
    }
    for (arguments, text, json) in [
        (
            &["worker", "list"][..],
            workers.to_owned(),
            document::<WorkerList>(json!({"workers": [worker()]})),
        ),
        (
            &["worker", "show", "w-1"],
            properties.to_owned(),
            document::<WorkerEntry>(worker()),
        ),
        (
            &["worker", "logs", "w-1"],
            LOG.to_owned(),
            document::<Value>(json!({"log": LOG})),
        ),
        (
            &["worker", "stop", "w-1"],
            "stopped worker w-1\n".to_owned(),
            document::<Value>(json!({"stopped": ["w-1"]})),
        ),
        (
            &["model", "list"],
            models.to_owned(),
            document::<ModelList>(json!({"models": [model()]})),
        ),
        (
            &["status"],
            format!(
                "queen 0.1.0 at {url} (pid {pid}), up 5 s\n\
                 requests: 0 waiting, 1 running, 2 completed, 3 failed, 4 cancelled\n\n\
                 no nodes\n\n\
                 no deployments\n\n\
                 {workers}"
            ),
            document::<Status>(status()),
        ),
        (
            &["queen", "status"],
            format!("queen 0.1.0 is running at {url} (pid {pid})\n"),
            document::<Value>(queen_status),
        ),
    ] {
        let as_text = run(queen.keeper(arguments)).await;
        assert_eq!(as_text, Finished::new(0, text, ""), "{arguments:?}");
        let as_json = run(queen.keeper(&[arguments, &["--json"]].concat())).await;
        assert_eq!(as_json, Finished::new(0, json, ""), "{arguments:?}");
    }
    assert_eq!(*queen.seen.stopped.lock().unwrap(), ["w-1", "w-1"]);
}

#[tokio::test]
async fn errors_are_one_json_document() {
    let queen = queen().await;
    assert_eq!(
        run(queen.keeper(&["worker", "show", "w-9", "--json"])).await,
        Finished::new(
            1,
            document::<Value>(json!({"error": {
                "type": "not_found_error",
                "code": "WORKER_NOT_FOUND",
                "message": "worker w-9 does not exist",
                "hint": "`rbee-keeper worker list` lists the workers"
            }})),
            "error: worker w-9 does not exist\n\n\
             hint: `rbee-keeper worker list` lists the workers\n"
        )
    );
}

#[tokio::test]
async fn external_queen_receives_only_the_token_of_the_token_file() {
    let queen = queen().await;
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(Some(dir.path().to_owned())).unwrap();
    Token::load_or_create(&home.queen_token()).unwrap();
    let home = home.path().to_str().unwrap();
    assert_eq!(
        run(queen.keeper(&["status", "--home", home])).await.code,
        Some(0)
    );
    let file = dir.path().join("token");
    fs::write(&file, "t".repeat(20)).unwrap();
    let with_token = ["status", "--token-file", file.to_str().unwrap()];
    assert_eq!(run(queen.keeper(&with_token)).await.code, Some(0));
    let sent = queen.seen.tokens.lock().unwrap();
    assert_eq!(*sent, [None, Some(format!("Bearer {}", "t".repeat(20)))]);
}

#[tokio::test]
async fn external_queen_is_neither_started_nor_stopped() {
    let queen = queen().await;
    for arguments in [&["queen", "start"], &["queen", "stop"], &["queen", "logs"]] {
        assert_eq!(
            run(queen.keeper(arguments)).await,
            Finished::new(
                2,
                "",
                format!(
                    "error: cannot manage the queen at {}, which was specified with `--queen` or \
                     `RBEE_QUEEN_URL`\n\n\
                     hint: leave out `--queen` and unset `RBEE_QUEEN_URL` to manage the queen of \
                     `--home`\n",
                    queen.url
                )
            )
        );
    }
}

#[tokio::test]
async fn unreachable_external_queen_is_an_error() {
    // Nothing can listen on port 0.
    let url = "http://127.0.0.1:0";
    let error = queen_lifecycle::connect(url, None).await.unwrap_err();
    assert_eq!(
        run(keeper(&["--queen", url, "infer", "Hi"])).await,
        Finished::new(
            1,
            "",
            format!("error: {error}\n\nhint: check the address in `--queen` or `RBEE_QUEEN_URL`\n")
        )
    );
}

#[tokio::test]
async fn queen_of_a_home_is_found_by_its_record() {
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
    assert_eq!(run(keeper(&["--home", home, "status"])).await.code, Some(0));
    let sent = queen.seen.tokens.lock().unwrap().clone();
    assert_eq!(sent, [Some(format!("Bearer {}", token.expose()))]);
    assert_eq!(
        run(keeper(&["--home", home, "queen", "start"])).await,
        Finished::new(
            0,
            format!(
                "queen 0.1.0 is already running at {} (pid {})\n",
                queen.url,
                std::process::id()
            ),
            ""
        )
    );
    // The note that the queen keeps running is printed only by the command that starts it.
    assert_eq!(
        run(keeper(&["--home", home, "infer", "Hi"])).await,
        run(queen.keeper(&["infer", "Hi"])).await
    );
}

#[tokio::test]
async fn commands_without_a_queen_name_the_command_that_starts_one() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().to_str().unwrap();
    let without_queen = |command: &[&str]| run(keeper(&[&["--home", home], command].concat()));
    for command in [&["status"][..], &["worker", "list"], &["queen", "status"]] {
        assert_eq!(
            without_queen(command).await,
            Finished::new(1, "", NO_QUEEN),
            "{command:?}"
        );
    }
    assert_eq!(
        without_queen(&["queen", "stop"]).await,
        Finished::new(0, "no queen is running\n", "")
    );
    assert_eq!(
        without_queen(&["queen", "stop", "--json"]).await,
        Finished::new(
            0,
            document::<Value>(json!({"queen": null, "left_behind": []})),
            ""
        )
    );
}

#[tokio::test]
async fn second_interrupt_exits_at_once_and_terminates_the_starting_queen() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("pid");
    mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    let pids = pipe::OpenOptions::new()
        .read_write(true)
        .open_receiver(&fifo)
        .unwrap();
    let program = dir.path().join("slow-queen");
    let text = dir.path().join("text");
    let script = format!("#!/bin/sh\necho $$ > {}; exec sleep 600\n", fifo.display());
    fs::write(&text, script).unwrap();
    // Another process makes the copy: a file that is open for writing in this process, or in a
    // child that another test has forked and that has not called exec yet, cannot be executed.
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
    let mut line = String::new();
    tokio::time::timeout(LIMIT, BufReader::new(pids).read_line(&mut line))
        .await
        .unwrap()
        .unwrap();
    let queen = ProcessIdentity::of(line.trim().parse().unwrap()).unwrap();
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    // Two signals in quick succession may be delivered as one, so signals are sent until the
    // keeper exits. The limit of a start, 20 s, is longer than all of them.
    let mut finishing = tokio::spawn(finish(child));
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let mut sent = 0;
    let finished = loop {
        tokio::select! {
            finished = &mut finishing => break finished.unwrap(),
            _ = ticks.tick() => {
                if sent == 1 {
                    assert!(queen.is_alive(), "the first interrupt terminated the queen");
                }
                let _ = kill_process(pid, Signal::INT);
                sent += 1;
            }
        }
    };
    assert!((2..50).contains(&sent), "{sent} interrupts");
    assert_eq!(finished, Finished::new(130, "", ""));
    tokio::time::timeout(LIMIT, queen.gone()).await.unwrap();
}
