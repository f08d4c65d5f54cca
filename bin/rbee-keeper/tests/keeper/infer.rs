//! `rbee-keeper infer` against a queen of a few lines: what goes where, and how it ends.

use std::{process::Stdio, time::Instant};

use crate::fake::{FakeQueen, LIMIT, Then, answer, end, ended, ended_child, error, started, token};
use diagnostics::Code;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::Child,
};
use worker_contract::InferInput;

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn interrupt(child: &Child) {
    signal(child, Signal::INT);
}

/// Whether the process has a handler for a signal.
fn catches(child: &Child, signal: Signal) -> bool {
    let status = format!("/proc/{}/status", child.id().unwrap());
    let status = std::fs::read_to_string(status).unwrap();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigCgt:"));
    let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
    mask & 1 << (signal.as_raw() - 1) != 0
}

fn messages(input: &InferInput) -> Vec<&str> {
    match input {
        InferInput::Messages(messages) => messages.iter().map(|m| m.content.as_str()).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tokens_go_to_stdout_and_all_else_to_stderr() {
    let queen = FakeQueen::start(answer(), Then::Close).await;
    let ended = ended(queen.keeper(&["infer", "Write a haiku"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.out, "An old silent pond\n");
    assert_eq!(
        ended.err,
        "queen: loads builtin:haiku\n\
         2 tokens · 50.0 tokens/s · worker w-1 · node local · device CPU-0 · seed 7\n"
    );
    let calls = queen.seen.calls.lock().unwrap();
    assert_eq!(messages(&calls[0].request.input), ["Write a haiku"]);
    assert!(queen.seen.cancelled.lock().unwrap().is_empty());
}

#[tokio::test]
async fn quiet_leaves_the_answer_alone() {
    let queen = FakeQueen::start(answer(), Then::Close).await;
    let ended = ended(queen.keeper(&["infer", "Hi", "--quiet"])).await;
    assert_eq!(
        (ended.out.as_str(), ended.err.as_str()),
        ("An old silent pond\n", "")
    );
}

#[tokio::test]
async fn json_is_one_event_a_line() {
    let queen = FakeQueen::start(answer(), Then::Close).await;
    let ended = ended(queen.keeper(&["--json", "infer", "Hi"])).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    let lines: Vec<Value> = ended
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<&str> = lines.iter().map(|l| l["event"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "narration",
            "assigned",
            "started",
            "token",
            "token",
            "token",
            "end"
        ]
    );
    assert_eq!(lines[3]["data"]["t"], "An old ");
    assert_eq!(lines[6]["data"]["usage"]["completion_tokens"], 2);
    assert!(ended.out.starts_with(r#"{"event":"narration","data":{"#));
}

#[tokio::test]
async fn an_error_after_some_tokens_ends_the_line_and_exits_1() {
    let script = vec![
        started(),
        token("An old"),
        error(
            Code::WorkerCrashed,
            "worker w-1 on node local died",
            "try again",
        ),
    ];
    let queen = FakeQueen::start(script.clone(), Then::Hang).await;
    let text = ended(queen.keeper(&["infer", "Hi"])).await;
    assert_eq!(text.code, Some(1));
    assert_eq!(text.out, "An old\n");
    assert_eq!(
        text.err,
        "error: worker w-1 on node local died\n\nhint: try again\n"
    );

    let json = ended(queen.keeper(&["infer", "Hi", "--json"])).await;
    assert_eq!(json.code, Some(1));
    let last: Value = serde_json::from_str(json.out.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "error");
    assert_eq!(last["data"]["code"], "WORKER_CRASHED");
    assert_eq!(
        json.out.lines().count(),
        3,
        "one terminal event: {}",
        json.out
    );
}

#[tokio::test]
async fn a_refused_request_is_told_as_the_queen_told_it() {
    let queen = FakeQueen::start(answer(), Then::Close).await;
    let ended = ended(queen.keeper(&["infer", "--model", "builtin:missing", "Hi"])).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""));
    assert_eq!(
        ended.err,
        "error: no such model: builtin:missing\n\n\
         hint: `rbee-keeper model list` shows what there is\n"
    );
}

#[tokio::test]
async fn a_stream_that_just_ends_is_an_error() {
    let queen = FakeQueen::start(vec![started(), token("An")], Then::Close).await;
    let ended = ended(queen.keeper(&["infer", "Hi"])).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), "An\n"));
    assert!(
        ended.err.contains("ended before the answer did"),
        "{}",
        ended.err
    );
}

#[tokio::test]
async fn ctrl_c_cancels_at_the_queen_and_exits_130_within_a_second() {
    let queen = FakeQueen::start(vec![started(), token("An old")], Then::Hang).await;
    let mut child = queen.keeper(&["infer", "Hi"]).spawn().unwrap();
    let mut text = [0; 6];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut text)
        .await
        .unwrap();
    assert_eq!(&text, b"An old");
    let begun = Instant::now();
    interrupt(&child);
    let ended = ended_child(child).await;
    assert!(begun.elapsed().as_millis() < 1000, "{:?}", begun.elapsed());
    assert_eq!(ended.code, Some(130));
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("\n", ""));
    queen.all_streams_closed().await;
    let calls = queen.seen.calls.lock().unwrap();
    let id = calls[0].request.request_id.to_string();
    assert_eq!(*queen.seen.cancelled.lock().unwrap(), [id]);
}

#[tokio::test]
async fn a_closed_terminal_counts_as_ctrl_c_but_not_under_nohup() {
    let queen = FakeQueen::start(vec![started(), token("An old")], Then::Hang).await;
    let mut child = queen.keeper(&["infer", "Hi"]).spawn().unwrap();
    let mut text = [0; 6];
    let stdout = child.stdout.as_mut().unwrap();
    stdout.read_exact(&mut text).await.unwrap();
    signal(&child, Signal::HUP);
    assert_eq!(ended_child(child).await.code, Some(130));

    let mut under_nohup = tokio::process::Command::new("/usr/bin/nohup");
    under_nohup
        .args([env!("CARGO_BIN_EXE_rbee-keeper"), "infer", "Hi"])
        .env_clear()
        .env("RBEE_QUEEN_URL", &queen.url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = under_nohup.spawn().unwrap();
    let stdout = child.stdout.as_mut().unwrap();
    stdout.read_exact(&mut text).await.unwrap();
    // Still ignored, as nohup asked for, while Ctrl+C is caught.
    assert!(!catches(&child, Signal::HUP) && catches(&child, Signal::INT));
    interrupt(&child);
    assert_eq!(ended_child(child).await.code, Some(130));
    queen.all_streams_closed().await;
}

#[tokio::test]
async fn ctrl_c_is_heard_while_nobody_reads_the_output() {
    let queen = FakeQueen::start(vec![started()], Then::Babble).await;
    let mut child = queen.keeper(&["infer", "Hi"]).spawn().unwrap();
    let mut first = [0; 1];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .await
        .unwrap();
    // Nothing more is read, so the pipe fills up and the keeper waits for its reader.
    let pipe_full = async {
        let pid = child.id().unwrap();
        let mut written = 0;
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
            let line = io.lines().find(|l| l.starts_with("wchar:")).unwrap();
            let now: u64 = line["wchar: ".len()..].parse().unwrap();
            if now == written && now > 60_000 {
                return;
            }
            written = now;
        }
    };
    tokio::time::timeout(LIMIT, pipe_full).await.unwrap();
    let begun = Instant::now();
    interrupt(&child);
    let stdout = child.stdout.take();
    let status = tokio::time::timeout(LIMIT, child.wait())
        .await
        .unwrap()
        .unwrap();
    drop(stdout);
    assert_eq!(status.code(), Some(130));
    assert!(begun.elapsed().as_millis() < 1500, "{:?}", begun.elapsed());
    queen.all_streams_closed().await;
}

#[tokio::test]
async fn ctrl_c_is_heard_while_the_prompt_is_awaited() {
    let queen = FakeQueen::start(answer(), Then::Close).await;
    let mut command = queen.keeper(&["infer", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"half a")
        .await
        .unwrap();
    // Without a handler the signal would end it as well, but not with 130.
    let handler = async {
        while !catches(&child, Signal::INT) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, handler).await.unwrap();
    interrupt(&child);
    let stdin = child.stdin.take();
    let ended = ended_child(child).await;
    drop(stdin);
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(queen.seen.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_reader_that_leaves_ends_it_quietly_and_cancels() {
    let queen = FakeQueen::start(vec![started()], Then::Babble).await;
    let mut child = queen.keeper(&["infer", "Hi"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "babble");
    drop(lines);
    let ended = ended_child(child).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    queen.all_streams_closed().await;
    assert_eq!(queen.seen.cancelled.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_prompt_comes_from_a_pipe() {
    let queen = FakeQueen::start(answer(), Then::Close).await;
    for arguments in [&["infer", "-"][..], &["infer"][..]] {
        let mut command = queen.keeper(arguments);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all("Grüße\n".as_bytes()).await.unwrap();
        drop(stdin);
        assert_eq!(ended_child(child).await.code, Some(0));
    }
    let calls = queen.seen.calls.lock().unwrap();
    assert_eq!(calls.len(), 2);
    assert!(
        calls
            .iter()
            .all(|c| messages(&c.request.input) == ["Grüße"])
    );
}

#[tokio::test]
async fn a_prompt_that_cannot_be_one_is_wrong_usage() {
    let queen = FakeQueen::start(answer(), Then::Close).await;
    let too_long = vec![b'a'; 1024 * 1024 + 1];
    for (input, told) in [
        (&b"ab\xff"[..], "byte 2"),
        (&too_long, "longer than 1048576 bytes"),
        (b"", "the prompt is empty"),
    ] {
        let mut command = queen.keeper(&["infer", "-"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input).await.unwrap();
        drop(stdin);
        let ended = ended_child(child).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""));
        assert!(
            ended.err.starts_with("error: ") && ended.err.contains(told),
            "{}",
            ended.err
        );
        assert!(ended.err.contains("\n\nhint: "), "{}", ended.err);
    }
    assert!(queen.seen.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn on_a_terminal_the_models_text_cannot_act() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let hostile = "a\u{1b}[2J\u{7}b\r\n\tc";
    let script = vec![started(), token(hostile), end()];
    let queen = FakeQueen::start(script, Then::Close).await;
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let screen = std::fs::OpenOptions::new()
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    let mut command = queen.keeper(&["infer", "Hi"]);
    command.stdout(screen);
    let ended = ended(command).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // What was written is followed by an error, because nobody has the other end any more.
    let (mut shown, mut part) = (Vec::new(), [0; 256]);
    while let Ok(n @ 1..) = rustix::io::read(&terminal, &mut part) {
        shown.extend_from_slice(&part[..n]);
    }
    // The terminal itself writes a line break as two characters.
    let shown = String::from_utf8(shown).unwrap().replace("\r\n", "\n");
    assert_eq!(shown, "a\\u{1b}[2J\\u{7}b\\r\n\tc\n");

    let piped = crate::fake::ended(queen.keeper(&["infer", "Hi"])).await;
    assert_eq!(
        piped.out,
        format!("{hostile}\n"),
        "a pipe gets the text as it is"
    );
}

#[tokio::test]
async fn ephemeral_stops_nothing_that_it_did_not_start() {
    let queen = FakeQueen::start(answer(), Then::Close).await;
    let ended = ended(queen.keeper(&["infer", "--ephemeral", "Hi"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        !ended.err.contains("keeper:"),
        "no start, no stop: {}",
        ended.err
    );
}
