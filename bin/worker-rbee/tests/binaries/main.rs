//! The worker binaries as processes: arguments, exit codes, signals, and a real model.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod memory;
mod support;

use std::{os::unix::process::ExitStatusExt as _, path::PathBuf, pin::Pin, process::Command};

use diagnostics::Code;
use futures_util::{Stream, StreamExt as _};
use http::HeaderMap;
use rest_client::CallError;
use worker_contract::{
    FatalLine, InferInput, InferRequest, Message, Sampling, StreamEvent, WORKER_TOKEN_FILE_ENV,
    WorkerClient,
};

use support::{CANDLE, CPU_0, HANG, MOCK, infer, request, start};

/// Signal number of `abort(3)`.
const SIGABRT: i32 = 6;

fn haiku(file: &str) -> String {
    let models = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/haiku");
    models.join(file).to_str().unwrap().to_owned()
}

#[test]
fn self_tests_pass_and_versions_print() {
    for (binary, name) in [(MOCK, "mock-worker-rbee"), (CANDLE, "llm-cpu-worker-rbee")] {
        let run = |argument| Command::new(binary).arg(argument).output().unwrap();
        let tested = run("--self-test");
        assert!(tested.status.success(), "{name}: {tested:?}");
        let version = String::from_utf8(run("--version").stdout).unwrap();
        let expected = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(version, expected);
        assert_eq!(run("--unknown").status.code(), Some(2));
        assert_eq!(
            Command::new(binary)
                .arg("--worker-id=a")
                .output()
                .unwrap()
                .status
                .code(),
            Some(2)
        );
    }
}

#[test]
fn worker_that_cannot_serve_reports_the_error_in_its_last_line() {
    let gpu = ["--device", "GPU-0", "--port", "0"];
    let (code, line) = start(CANDLE, &haiku("rbee-haiku-tiny-f16.gguf"), &gpu).fatal();
    assert_eq!((code, line.fatal.code), (1, Code::BackendUnavailable));

    let (code, line) = start(CANDLE, "/nonexistent/model.gguf", &CPU_0).fatal();
    assert_eq!((code, line.fatal.code), (1, Code::ModelNotFound));

    let (code, line) = start(MOCK, "fail=load", &CPU_0).fatal();
    assert_eq!((code, line.fatal.code), (1, Code::InvalidModelFile));

    let (code, line) = start(MOCK, "speed=9", &CPU_0).fatal();
    assert_eq!((code, line.fatal.code), (1, Code::InvalidModelRef));

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, line) = start(MOCK, "any", &["--device", "CPU-0", "--port", &port]).fatal();
    assert_eq!((code, line.fatal.code), (98, Code::PortInUse));
}

#[test]
fn worker_does_not_start_without_tokens() {
    let output = Command::new(MOCK)
        .args([
            "--worker-id",
            "w",
            "--hive-id",
            "local",
            "--generation",
            "1",
            "--model",
            "any",
        ])
        .args([
            "--queen-url",
            "http://127.0.0.1:1",
            "--device",
            "CPU-0",
            "--port",
            "0",
        ])
        .env_remove(WORKER_TOKEN_FILE_ENV)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    let line: FatalLine = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let expected = format!("{WORKER_TOKEN_FILE_ENV} is not set");
    assert_eq!(line.fatal.message, expected);
}

/// Starts a request and returns its stream after the first event.
async fn started_stream(
    client: &WorkerClient,
) -> Pin<Box<impl Stream<Item = Result<StreamEvent, CallError>> + use<>>> {
    let warm = InferRequest {
        max_tokens: Some(1),
        ..request("warm")
    };
    infer(client, &warm).await;
    let streamed = InferRequest {
        stream: true,
        ..request("a")
    };
    let stream = client.infer_stream(&streamed, HeaderMap::new()).await;
    let mut stream = Box::pin(stream.unwrap());
    stream.next().await.unwrap().unwrap();
    stream
}

#[tokio::test]
async fn first_sigterm_lets_requests_finish_and_second_ends_them() {
    let mut process = start(MOCK, "tokens_per_second=50,length=20", &CPU_0);
    let client = process.client();
    let stream = started_stream(&client).await;
    process.terminate();
    let events: Vec<_> = stream.collect().await;
    assert!(
        matches!(events.last(), Some(Ok(StreamEvent::End(_)))),
        "{events:?}"
    );
    assert_eq!(process.wait().0.code(), Some(0));

    let mut process = start(MOCK, "tokens_per_second=20,length=4000", &CPU_0);
    let client = process.client();
    let stream = started_stream(&client).await;
    process.terminate();
    // Wait until the first signal is handled.
    let draining = async {
        while client.info().await.unwrap().status != worker_contract::WorkerStatus::Draining {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HANG, draining).await.unwrap();
    process.terminate();
    let events: Vec<_> = stream.collect().await;
    assert!(
        matches!(events.last(), Some(Ok(StreamEvent::Error(_)))),
        "{events:?}"
    );
    assert_eq!(process.wait().0.code(), Some(0));
}

#[tokio::test]
async fn worker_survives_the_reader_of_its_log() {
    let mut process = start(MOCK, "any", &[&CPU_0[..], &["--log", "trace"]].concat());
    let client = process.client();
    // Closes the pipe: every log line from here on fails.
    process.stderr = None;
    for round in 0..3 {
        infer(&client, &request(&format!("r{round}"))).await;
    }
    client.shutdown().await.unwrap();
    assert_eq!(process.wait().0.code(), Some(0));
}

#[tokio::test]
async fn crash_of_the_engine_terminates_the_process() {
    let mut process = start(MOCK, "crash_after=3", &CPU_0);
    let client = process.client();
    infer(
        &client,
        &InferRequest {
            max_tokens: Some(1),
            ..request("warm")
        },
    )
    .await;
    let response = client.infer(&request("a")).await;
    assert!(
        matches!(response, Err(CallError::Link(_))),
        "the connection breaks: {response:?}"
    );
    assert_eq!(process.wait().0.signal(), Some(SIGABRT));
}

#[tokio::test]
async fn real_model_reproduces_the_reference_outputs() {
    let golden: serde_json::Value =
        serde_json::from_slice(&std::fs::read(haiku("golden.json")).unwrap()).unwrap();
    for file in ["rbee-haiku-tiny-f16.gguf", ""] {
        let mut process = start(CANDLE, &haiku(file), &CPU_0);
        let client = process.client();
        let cases = golden["cases"].as_array().unwrap();
        assert!(!cases.is_empty());
        for (index, case) in cases.iter().enumerate() {
            let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
            let ids =
                |name: &str| -> Vec<u32> { serde_json::from_value(case[name].clone()).unwrap() };
            let greedy = InferRequest {
                input: InferInput::Messages(messages),
                sampling: Sampling::greedy(),
                max_tokens: Some(ids("output_ids").len() as u32),
                logprobs: Some(5),
                ..request(&format!("case-{index}"))
            };
            let response = infer(&client, &greedy).await;
            assert_eq!(response.tokens, ids("output_ids"), "{file} case {index}");
            assert_eq!(response.text, case["output_text"].as_str().unwrap());
            assert_eq!(
                response.usage.prompt_tokens as usize,
                ids("prompt_ids").len()
            );
            let expected = case["top5_first3"].as_array().unwrap();
            for (found, expected) in response.logprobs.iter().zip(expected) {
                for (found, expected) in found.top.iter().zip(expected.as_array().unwrap()) {
                    assert_eq!(u64::from(found.id), expected["id"].as_u64().unwrap());
                    let difference =
                        f64::from(found.logprob) - expected["logprob"].as_f64().unwrap();
                    assert!(difference.abs() < 1e-3, "{file} case {index}: {difference}");
                }
            }
            // A request that is continued after a few tokens yields the same tokens.
            let cut = response.tokens.len().min(6) - 1;
            let continued = InferRequest {
                continue_from: response.tokens[..cut].to_vec(),
                ..greedy
            };
            let rest = infer(&client, &continued).await;
            assert_eq!(rest.tokens, response.tokens[cut..], "{file} case {index}");
            assert!(response.text.ends_with(&rest.text));
        }
        client.shutdown().await.unwrap();
        assert_eq!(process.wait().0.code(), Some(0));
    }
}
