//! `rbee-keeper infer` against a fake queen.

use std::{process::Stdio, time::Instant};

use diagnostics::Code;
use queen_contract::InferEvent;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::Child,
};
use worker_contract::{InferInput, StreamEvent};

use crate::fake::{
    FakeQueen, Finished, KEEPER, LIMIT, Then, end, error, finish, isolated, response, run, started,
    thought, token,
};

const COMPLETION: &str = "An old silent pond\n";
const PROGRESS: &str = "queen: waiting for a worker to load the model\n\
    2 tokens · 50.0 tokens/s · worker w-1 · node local · device CPU-0 · seed 7\n";

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn interrupt(child: &Child) {
    signal(child, Signal::INT);
}

/// Returns whether the process has a handler for a signal.
fn catches(child: &Child, signal: Signal) -> bool {
    let status = format!("/proc/{}/status", child.id().unwrap());
    let status = std::fs::read_to_string(status).unwrap();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigCgt:"));
    let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
    mask & 1 << (signal.as_raw() - 1) != 0
}

/// Waits until the keeper has printed `text` to standard output.
async fn expect_output(child: &mut Child, text: &str) {
    let mut output = vec![0; text.len()];
    let stdout = child.stdout.as_mut().unwrap();
    let read = stdout.read_exact(&mut output);
    tokio::time::timeout(LIMIT, read).await.unwrap().unwrap();
    assert_eq!(output, text.as_bytes());
}

/// Runs the keeper with `input` on standard input.
async fn run_with_input(queen: &FakeQueen, arguments: &[&str], input: &[u8]) -> Finished {
    let mut command = queen.keeper(arguments);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).await.unwrap();
    drop(stdin);
    finish(child).await
}

fn messages(input: &InferInput) -> Vec<&str> {
    match input {
        InferInput::Messages(messages) => messages.iter().map(|m| m.content.as_str()).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tokens_go_to_stdout_and_the_rest_to_stderr() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    let finished = run(queen.keeper(&["infer", "Write a haiku"])).await;
    assert_eq!(finished, Finished::new(0, COMPLETION, PROGRESS));
    let calls = queen.seen.calls.lock().unwrap();
    assert_eq!(messages(&calls[0].request.input), ["Write a haiku"]);
    assert!(queen.seen.cancelled.lock().unwrap().is_empty());
}

#[tokio::test]
async fn piped_text_follows_the_words_of_the_prompt() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    let file = "\u{feff}let x = 1;\r\n";
    for (arguments, input, prompt) in [
        (
            &["infer", "Explain", "this:"][..],
            file,
            "Explain this:\n\nlet x = 1;",
        ),
        (&["infer", "Hi"], "", "Hi"),
        (&["infer", "Hi"], "\n", "Hi"),
        (&["infer", "-"], file, "let x = 1;"),
        (&["infer"], file, "let x = 1;"),
    ] {
        let finished = run_with_input(&queen, arguments, input.as_bytes()).await;
        assert_eq!(
            finished,
            Finished::new(0, COMPLETION, PROGRESS),
            "{arguments:?}"
        );
        let call = queen.seen.calls.lock().unwrap().pop().unwrap();
        assert_eq!(messages(&call.request.input), [prompt]);
    }
}

#[tokio::test]
async fn a_pipe_that_stays_open_is_explained() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    let mut command = queen.keeper(&["infer", "Hi"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = tokio::time::timeout(LIMIT, lines.next_line())
        .await
        .unwrap();
    assert_eq!(
        line.unwrap().unwrap(),
        "keeper: waiting for the end of standard input, which is appended to the prompt; redirect \
         it with `< /dev/null` to leave it out"
    );
    drop(child.stdin.take());
    assert_eq!(finish(child).await.out, COMPLETION);
}

#[tokio::test]
async fn notes_are_warnings_on_stderr() {
    let mut start = started();
    if let InferEvent::Worker(StreamEvent::Started(event)) = &mut start {
        event.notes = vec!["not enforced: `not`\u{7}".to_owned()];
    }
    let queen = FakeQueen::start(vec![start, token("Yes\n"), end()], Then::Close).await;
    let warning = "worker: warning: not enforced: `not`\\u{7}\n";
    let stderr = format!("{warning}2 tokens · 50.0 tokens/s · seed 7\n");
    let finished = run(queen.keeper(&["infer", "Hi"])).await;
    assert_eq!(finished, Finished::new(0, "Yes\n", &stderr));
    let finished = run(queen.keeper(&["infer", "--json", "Hi"])).await;
    assert_eq!((finished.code, finished.err.as_str()), (Some(0), ""));
    assert_eq!(finished.out.matches("not enforced").count(), 1);
}

#[tokio::test]
async fn reasoning_goes_to_stderr_unless_hidden() {
    let script = vec![
        started(),
        thought("Hm\u{7}"),
        thought("m."),
        token("Yes\n"),
        end(),
    ];
    let queen = FakeQueen::start(script, Then::Close).await;
    let footer = "2 tokens · 50.0 tokens/s · seed 7\n";
    let shown = format!("Hm\\u{{7}}m.\n\n{footer}");
    for (arguments, stderr) in [
        (&["infer", "--think=low", "Hi"][..], shown.as_str()),
        (&["infer", "--hide-thinking", "Hi"], footer),
        (&["infer", "--quiet", "Hi"], ""),
    ] {
        let finished = run(queen.keeper(arguments)).await;
        assert_eq!(finished, Finished::new(0, "Yes\n", stderr), "{arguments:?}");
    }
    let finished = run(queen.keeper(&["infer", "--json", "Hi"])).await;
    assert!(
        finished.out.contains("\"reasoning\":\"m.\""),
        "{}",
        finished.out
    );
    let calls = queen.seen.calls.lock().unwrap();
    let reasoning = &calls[0].request.reasoning;
    assert_eq!(
        (reasoning.enabled, reasoning.effort.as_deref()),
        (Some(true), Some("low"))
    );
}

#[tokio::test]
async fn quiet_prints_only_the_completion() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    let finished = run(queen.keeper(&["infer", "Hi", "--quiet"])).await;
    assert_eq!(finished, Finished::new(0, COMPLETION, ""));
}

#[tokio::test]
async fn json_prints_one_event_per_line() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    let finished = run(queen.keeper(&["--json", "infer", "Hi"])).await;
    let lines = r#"{"event":"narration","data":{"actor":"queen","action":"load","message":"waiting for a worker to load the model","level":"info"}}
{"event":"assigned","data":{"worker":"w-1","node":"local","device":"CPU-0","attempt":1}}
{"event":"started","data":{"request_id":"r","model":"builtin:haiku","seed":7,"prompt_tokens":3,"cached_tokens":0}}
{"event":"token","data":{"i":0,"t":"An old ","id":1}}
{"event":"token","data":{"i":0,"t":"silent pond","id":1}}
{"event":"token","data":{"i":0,"t":"","id":1}}
{"event":"end","data":{"reason":"stop","usage":{"prompt_tokens":0,"completion_tokens":2,"cached_tokens":0},"timings":{"queue_ms":0.0,"prefill_ms":0.0,"decode_ms":0.0,"tokens_per_second":50.0}}}
"#;
    assert_eq!(finished, Finished::new(0, lines, ""));
}

#[tokio::test]
async fn error_after_tokens_ends_the_line_and_exits_with_1() {
    let message = "worker w-1 on node local stalled: no output for 60 s after 1 tokens";
    let script = vec![
        started(),
        token("An old"),
        error(Code::WorkerStalled, message, "try again"),
    ];
    let queen = FakeQueen::start(script, Then::Hang).await;
    let stderr = format!("error: {message}\n\nhint: try again\n");
    assert_eq!(
        run(queen.keeper(&["infer", "Hi"])).await,
        Finished::new(1, "An old\n", stderr.clone())
    );
    let lines = r#"{"event":"started","data":{"request_id":"r","model":"builtin:haiku","seed":7,"prompt_tokens":3,"cached_tokens":0}}
{"event":"token","data":{"i":0,"t":"An old","id":1}}
{"event":"error","data":{"code":"WORKER_STALLED","message":"worker w-1 on node local stalled: no output for 60 s after 1 tokens","hint":"try again"}}
"#;
    assert_eq!(
        run(queen.keeper(&["infer", "Hi", "--json"])).await,
        Finished::new(1, lines, stderr)
    );
}

#[tokio::test]
async fn error_of_the_queen_is_printed_unchanged() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    assert_eq!(
        run(queen.keeper(&["infer", "--model", "builtin:missing", "Hi"])).await,
        Finished::new(
            1,
            "",
            "error: model \"builtin:missing\" does not exist\n\n\
             hint: `rbee-keeper model list` lists the models\n"
        )
    );
}

#[tokio::test]
async fn stream_without_a_terminal_event_is_an_error() {
    let queen = FakeQueen::start(vec![started(), token("An")], Then::Close).await;
    assert_eq!(
        run(queen.keeper(&["infer", "Hi"])).await,
        Finished::new(
            1,
            "An\n",
            format!(
                "error: the stream from the queen at {} ended before the response was complete\n\n\
                 hint: check with `rbee-keeper queen status` whether the queen is still running\n",
                queen.url
            )
        )
    );
}

#[tokio::test]
async fn interrupt_cancels_at_the_queen_and_exits_with_130_within_a_second() {
    let queen = FakeQueen::start(vec![started(), token("An old")], Then::Hang).await;
    let mut child = queen.keeper(&["infer", "Hi"]).spawn().unwrap();
    expect_output(&mut child, "An old").await;
    let interrupted_at = Instant::now();
    interrupt(&child);
    let finished = finish(child).await;
    let elapsed = interrupted_at.elapsed();
    assert!(elapsed.as_millis() < 1000, "{elapsed:?}");
    assert_eq!(finished, Finished::new(130, "\n", ""));
    queen.all_streams_closed().await;
    let calls = queen.seen.calls.lock().unwrap();
    let id = calls[0].request.request_id.to_string();
    assert_eq!(*queen.seen.cancelled.lock().unwrap(), [id]);
}

#[tokio::test]
async fn termination_exits_with_143() {
    let queen = FakeQueen::start(vec![started(), token("An old")], Then::Hang).await;
    let mut child = queen.keeper(&["infer", "Hi"]).spawn().unwrap();
    expect_output(&mut child, "An old").await;
    signal(&child, Signal::TERM);
    assert_eq!(finish(child).await, Finished::new(143, "\n", ""));
    queen.all_streams_closed().await;
}

#[tokio::test]
async fn closed_terminal_interrupts_except_under_nohup() {
    let queen = FakeQueen::start(vec![started(), token("An old")], Then::Hang).await;
    let start = |wrapper: &[&str]| {
        let mut command = isolated(wrapper[0]);
        command
            .args(&wrapper[1..])
            .args([KEEPER, "infer", "Hi"])
            .env("RBEE_QUEEN_URL", &queen.url);
        command.spawn().unwrap()
    };
    // The tests themselves may run under nohup.
    let mut child = start(&["/usr/bin/env", "--default-signal=HUP"]);
    expect_output(&mut child, "An old").await;
    signal(&child, Signal::HUP);
    assert_eq!(finish(child).await, Finished::new(129, "\n", ""));

    let mut child = start(&["/usr/bin/nohup"]);
    expect_output(&mut child, "An old").await;
    // SIGHUP stays ignored.
    assert!(!catches(&child, Signal::HUP) && catches(&child, Signal::INT));
    interrupt(&child);
    assert_eq!(finish(child).await, Finished::new(130, "\n", ""));
    queen.all_streams_closed().await;
}

#[tokio::test]
async fn interrupt_works_while_the_output_is_not_read() {
    // Longer than the capacity of a pipe, so that the keeper blocks while it prints the token.
    let long = token(&"x".repeat(1 << 20));
    let queen = FakeQueen::start(vec![long], Then::Repeat).await;
    for (arguments, first) in [
        (&["infer", "Hi"][..], "xx"),
        (&["infer", "Hi", "--json"], "{\"event\":\"token\""),
    ] {
        let mut child = queen.keeper(arguments).spawn().unwrap();
        expect_output(&mut child, first).await;
        let interrupted_at = Instant::now();
        interrupt(&child);
        let unread = child.stdout.take();
        let status = tokio::time::timeout(LIMIT, child.wait()).await.unwrap();
        drop(unread);
        let elapsed = interrupted_at.elapsed();
        assert_eq!(status.unwrap().code(), Some(130));
        assert!(elapsed.as_millis() < 1500, "{elapsed:?}");
        queen.all_streams_closed().await;
    }
    let calls = queen.seen.calls.lock().unwrap();
    let ids = calls.iter().map(|call| call.request.request_id.to_string());
    assert_eq!(
        *queen.seen.cancelled.lock().unwrap(),
        ids.collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn interrupt_works_while_the_prompt_is_read() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    let mut command = queen.keeper(&["infer", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // Longer than the capacity of a pipe, so that the write completes only after the keeper,
    // which has installed its signal handlers before, has started to read.
    let unfinished = vec![b'a'; 512 * 1024];
    let stdin = child.stdin.as_mut().unwrap();
    let write = stdin.write_all(&unfinished);
    tokio::time::timeout(LIMIT, write).await.unwrap().unwrap();
    interrupt(&child);
    let stdin = child.stdin.take();
    let finished = finish(child).await;
    drop(stdin);
    assert_eq!(finished, Finished::new(130, "", ""));
    assert!(queen.seen.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn closed_output_exits_quietly_and_cancels() {
    let queen = FakeQueen::start(vec![started()], Then::Repeat).await;
    let mut child = queen.keeper(&["infer", "Hi"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "more");
    drop(lines);
    assert_eq!(finish(child).await, Finished::new(0, "", ""));
    queen.all_streams_closed().await;
    let calls = queen.seen.calls.lock().unwrap();
    let id = calls[0].request.request_id.to_string();
    assert_eq!(*queen.seen.cancelled.lock().unwrap(), [id]);
}

#[tokio::test]
async fn prompt_is_read_from_a_pipe() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    for arguments in [&["infer", "-"][..], &["infer"][..]] {
        let finished = run_with_input(&queen, arguments, "Grüße\n".as_bytes()).await;
        assert_eq!(finished, Finished::new(0, COMPLETION, PROGRESS));
    }
    let calls = queen.seen.calls.lock().unwrap();
    assert_eq!(calls.len(), 2);
    for call in calls.iter() {
        assert_eq!(messages(&call.request.input), ["Grüße"]);
    }
}

#[tokio::test]
async fn invalid_prompt_is_a_usage_error() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    let too_long = vec![b'a'; 1024 * 1024 + 1];
    for (input, error) in [
        (
            &b"ab\xff"[..],
            "error: the prompt is not valid UTF-8: invalid byte at offset 2\n\n\
             hint: convert it to UTF-8, for example with `iconv -t UTF-8`\n",
        ),
        (
            &too_long,
            "error: the prompt is longer than 1048576 bytes\n\n\
             hint: shorten the prompt\n",
        ),
        (
            b"",
            "error: the prompt is empty\n\n\
             hint: pass a prompt, for example `rbee-keeper infer \"Write a haiku\"`, or pipe one \
             in\n",
        ),
    ] {
        assert_eq!(
            run_with_input(&queen, &["infer", "-"], input).await,
            Finished::new(2, "", error)
        );
    }
    assert!(queen.seen.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn invalid_schema_file_is_a_usage_error() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let too_long = vec![b' '; 1024 * 1024 + 1];
    for (path, reason) in [
        (
            dir.path().join("missing"),
            "No such file or directory (os error 2)",
        ),
        (
            file("long", &too_long),
            "the file is longer than 1048576 bytes",
        ),
        (
            file("text", b"{"),
            "the file is not JSON: EOF while parsing an object at line 1 column 1",
        ),
    ] {
        let path = path.to_str().unwrap();
        assert_eq!(
            run(queen.keeper(&["infer", "--json-schema", path, "Hi"])).await,
            Finished::new(
                2,
                "",
                format!(
                    "error: cannot use `--json-schema {path}`: {reason}\n\n\
                     hint: pass a file that contains a JSON schema, for example \
                     `{{\"type\": \"object\"}}`\n"
                )
            )
        );
    }
    assert!(queen.seen.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn ephemeral_does_not_stop_a_queen_that_it_did_not_start() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    // Neither a start nor a stop is reported.
    assert_eq!(
        run(queen.keeper(&["infer", "--ephemeral", "Hi"])).await,
        Finished::new(0, COMPLETION, PROGRESS)
    );
}

#[tokio::test]
async fn model_without_a_chat_template_continues_the_prompt() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    let base = ["infer", "--model", "builtin:base", "Once upon"];
    let note = "keeper: warning: the model has no chat template and continues the prompt as it \
                is; pass `--raw` to ask for this\n";
    assert_eq!(
        run(queen.keeper(&base)).await,
        Finished::new(0, COMPLETION, format!("{note}{PROGRESS}"))
    );
    let raw = [&base[..], &["--raw"]].concat();
    assert_eq!(
        run(queen.keeper(&raw)).await,
        Finished::new(0, COMPLETION, PROGRESS)
    );
    {
        let calls = queen.seen.calls.lock().unwrap();
        let ids: std::collections::HashSet<_> =
            calls.iter().map(|call| &call.request.request_id).collect();
        assert_eq!((calls.len(), ids.len()), (3, 3));
        let prompt = InferInput::Prompt("Once upon".to_owned());
        assert_eq!(messages(&calls[0].request.input), ["Once upon"]);
        assert_eq!(calls[1].request.input, prompt);
        assert_eq!(calls[2].request.input, prompt);
    }
    let system = [&base[..], &["--system", "Be brief"]].concat();
    assert_eq!(
        run(queen.keeper(&system)).await,
        Finished::new(
            1,
            "",
            "error: the model has no chat template\n\n\
             hint: leave out `--system`, and the model continues the prompt as it is, as with \
             `--raw`\n"
        )
    );
}

#[tokio::test]
async fn paths_of_models_become_absolute() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    std::fs::create_dir_all(root.join("models/dir")).unwrap();
    std::fs::create_dir(root.join("work")).unwrap();
    for file in ["models/x.bin", "models/dir/config.json"] {
        std::fs::write(root.join(file), "").unwrap();
    }
    let cases = [
        ("./x.gguf", "work/x.gguf"),
        ("../models/x.gguf", "models/x.gguf"),
        ("~/x.gguf", "x.gguf"),
        ("m/x.gguf", "work/m/x.gguf"),
        ("../models/x.bin", "models/x.bin"),
        ("file:../models/dir", "models/dir"),
    ];
    for (text, _) in cases {
        let mut command = queen.keeper(&["infer", "--model", text, "Hi"]);
        command.current_dir(root.join("work")).env("HOME", &root);
        assert_eq!(run(command).await, Finished::new(0, COMPLETION, PROGRESS));
    }
    for (text, file) in [
        ("models/x.bin", "models/x.bin"),
        ("models/dir", "models/dir"),
    ] {
        let mut command = queen.keeper(&["infer", "--model", text, "Hi"]);
        command.current_dir(&root);
        assert_eq!(run(command).await, Finished::new(0, COMPLETION, PROGRESS));
        let calls = queen.seen.calls.lock().unwrap();
        let model = format!("file:{}/{file}", root.display());
        assert_eq!(calls.last().unwrap().model.to_string(), model);
    }
    let calls = queen.seen.calls.lock().unwrap();
    for (call, (_, file)) in calls.iter().zip(cases) {
        assert_eq!(
            call.model.to_string(),
            format!("file:{}/{file}", root.display())
        );
    }
}

#[tokio::test]
async fn empty_pipe_is_a_usage_error() {
    let queen = FakeQueen::start(response(), Then::Close).await;
    for (arguments, input) in [
        (&["infer"][..], &b""[..]),
        (&["infer"], b"\n"),
        (&["infer", "-"], b""),
        (&["infer", "--raw"], b""),
    ] {
        let finished = run_with_input(&queen, arguments, input).await;
        assert_eq!((finished.code, finished.out.as_str()), (Some(2), ""));
        let error = "error: the prompt is empty\n\nhint: pass a prompt";
        assert!(finished.err.starts_with(error), "{}", finished.err);
    }
    assert!(queen.seen.calls.lock().unwrap().is_empty());
}
