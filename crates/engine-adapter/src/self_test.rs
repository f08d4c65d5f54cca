//! The test of an installed adapter: it starts a small engine that speaks the protocol of
//! llama.cpp, infers with it, ends it, infers with the next one, and leaves nothing.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use diagnostics::Diagnostic;
use worker_contract::{EngineKind, InferInput, InferRequest, StreamEvent};
use worker_service::SharedService;

use crate::{
    engine::{AdapterSettings, Engine, EngineSource},
    errors::self_test_failed,
    load::load,
};

/// First argument of the process that becomes the engine of the self-test; the port follows.
pub const TEST_ENGINE: &str = "test-engine";
/// Prompt that ends the engine.
const CRASH: &str = "crash";
/// Time limit of each step.
const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// Runs the test. `program` is this program.
///
/// Errors: `INTERNAL` that says what failed.
pub async fn self_test(program: String) -> Result<(), Diagnostic> {
    let command = [program.as_str(), TEST_ENGINE, "{port}"].map(str::to_owned);
    let engine = Engine::new(AdapterSettings {
        kind: EngineKind::LlamaCpp,
        source: EngineSource::Command {
            launcher: program.clone(),
            command: command.to_vec(),
        },
        key: None,
        model: "test".into(),
        engine_model: "test".into(),
        alias: "mock:test".parse()?,
        context_length: None,
        slots: 1,
        threads: 1,
    })?;
    let tested = tokio::time::timeout(LIMIT * 3, steps(&engine)).await;
    engine.end();
    tested.unwrap_or_else(|_| Err(self_test_failed("it takes too long")))
}

async fn steps(engine: &Engine) -> Result<(), Diagnostic> {
    let service = load(engine.clone(), Arc::new(|_, _| ())).await?;
    expect(&output(&service, "a", "hello").await?, "4 tokens")?;
    if output(&service, "b", CRASH).await.is_ok() {
        return Err(self_test_failed("a crash of the engine is no error"));
    }
    while !service.is_available() {
        tokio::time::sleep(POLL).await;
    }
    expect(&output(&service, "c", "again").await?, "4 tokens")
}

fn expect(received: &str, expected: &str) -> Result<(), Diagnostic> {
    if received == expected {
        return Ok(());
    }
    let what = format!("the output is {received:?} instead of {expected:?}");
    Err(self_test_failed(&what))
}

async fn output(service: &SharedService, id: &str, prompt: &str) -> Result<String, Diagnostic> {
    let input = InferInput::Prompt(prompt.to_owned());
    let mut stream = service
        .submit(InferRequest::new(id.parse()?, input))
        .await?;
    let mut text = String::new();
    while let Some(event) = stream.recv().await {
        match event {
            StreamEvent::Token(token) => text.push_str(&token.t),
            StreamEvent::Error(error) => return Err(error),
            _ => {}
        }
    }
    Ok(text)
}

/// Serves as the engine of the test on the port that `arguments` name, until it is killed.
pub fn test_engine(arguments: &[String]) -> ExitCode {
    let port = arguments.first().and_then(|text| text.parse().ok());
    let listener = port.and_then(|port: u16| TcpListener::bind(("127.0.0.1", port)).ok());
    let Some(listener) = listener else {
        return ExitCode::FAILURE;
    };
    for connection in listener.incoming().flatten() {
        thread::spawn(move || answer(connection));
    }
    ExitCode::SUCCESS
}

/// Answers one request, and closes the connection.
fn answer(connection: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        if line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let crashes = String::from_utf8_lossy(&body).contains(CRASH);
    let (kind, content) = match path.as_str() {
        "/tokenize" if crashes => ("application/json", r#"{"tokens": [13]}"#.to_owned()),
        "/tokenize" => ("application/json", r#"{"tokens": [1, 2]}"#.to_owned()),
        "/props" => (
            "application/json",
            r#"{"default_generation_settings": {"n_ctx": 64}, "total_slots": 1}"#.to_owned(),
        ),
        "/completion" if String::from_utf8_lossy(&body).contains("[13]") => std::process::abort(),
        "/completion" => ("text/event-stream", stream()),
        _ => ("application/json", "{}".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        content.len()
    );
    let mut connection = connection;
    connection.write_all(head.as_bytes())?;
    connection.write_all(content.as_bytes())
}

fn stream() -> String {
    let words = ["4", " ", "tok", "ens"];
    let mut out = String::new();
    for (index, word) in words.iter().enumerate() {
        let event = serde_json::json!({"content": word, "tokens": [index], "stop": false,
            "tokens_predicted": index + 1});
        out.extend(["data: ", &event.to_string(), "\n\n"]);
    }
    let last = serde_json::json!({"content": "", "tokens": [], "stop": true, "stop_type": "eos",
        "tokens_predicted": words.len(), "tokens_evaluated": 2});
    out.extend(["data: ", &last.to_string(), "\n\n"]);
    out
}
