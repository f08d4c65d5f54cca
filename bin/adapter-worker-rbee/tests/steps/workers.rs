//! Workers, and how they end.

use std::{fs, path::PathBuf, time::Duration};

use bdd::{ReservedPort, World, binary, eventually};
use cucumber::{given, then, when};
use daemon_shell::Token;
use worker_contract::{QUEEN_TOKEN_FILE_ENV, WORKER_TOKEN_FILE_ENV, WorkerClient, WorkerStatus};

use super::LIMIT;

/// The worker of the scenario.
#[derive(Debug, Default)]
pub struct Worker {
    pub client: Option<WorkerClient>,
    /// Status of the worker before it was ready.
    first_status: Option<WorkerStatus>,
}

pub fn client(world: &mut World) -> WorkerClient {
    let client = world.get::<Worker>().client.clone();
    client.expect("a worker was started")
}

pub fn engine_log(world: &World) -> PathBuf {
    world.dir().join("engine.log")
}

/// Starts a worker; `engine` are the arguments after those of the contract.
pub fn start(world: &mut World, model: &str, engine: &[String]) {
    let port = ReservedPort::any();
    let token_file = world.dir().join("token");
    let token = Token::load_or_create(&token_file).unwrap();
    let number = port.port().to_string();
    let mut arguments: Vec<String> = [
        "--worker-id",
        "w",
        "--model",
        model,
        "--device",
        "CPU-0",
        "--port",
        &number,
        "--queen-url",
        "http://127.0.0.1:1",
        "--hive-id",
        "local",
        "--generation",
        "1",
        "--slots",
        "2",
        "--alias",
        "mock:m",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.extend_from_slice(engine);
    let mut command = world.command("adapter-worker-rbee", &arguments);
    command
        .env(WORKER_TOKEN_FILE_ENV, &token_file)
        .env(QUEEN_TOKEN_FILE_ENV, &token_file);
    let running = world.start_command(&mut command);
    world.running.insert("worker".into(), running);
    world.reserved_ports.push(port);
    let url = format!("http://127.0.0.1:{number}");
    let client = WorkerClient::new(&url, Some(token.expose().to_owned())).unwrap();
    world.get::<Worker>().client = Some(client);
}

/// Starts a worker with a simulated engine.
pub async fn start_simulated(world: &mut World, engine: &str, options: &[&str]) {
    let mut words: Vec<String> = ["--engine", engine, "--"].map(str::to_owned).to_vec();
    words.push(binary("engine-sim").to_string_lossy().into_owned());
    let log = engine_log(world).to_string_lossy().into_owned();
    words.extend([engine, "--port", "{port}", "--log", &log].map(str::to_owned));
    words.extend(options.iter().map(ToString::to_string));
    start(world, "m", &words);
    await_status(world, WorkerStatus::Ready).await;
}

/// Waits for a status. The first one that the worker reports is noted.
pub async fn await_status(world: &mut World, status: WorkerStatus) {
    let client = client(world);
    let mut first = world.get::<Worker>().first_status;
    let end = tokio::time::Instant::now() + LIMIT;
    loop {
        let found = client.info().await.map(|info| info.status);
        first = first.or(found.as_ref().ok().copied());
        if found.as_ref() == Ok(&status) {
            break;
        }
        let log = world.running["worker"].stderr();
        assert!(
            tokio::time::Instant::now() < end,
            "{found:?}, not {status:?}: {log}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.get::<Worker>().first_status = first;
}

#[given(regex = r"^a worker with the engine ([a-z-]+)$")]
async fn with_engine(world: &mut World, engine: String) {
    start_simulated(world, &engine, &[]).await;
}

#[given(regex = r"^a worker with the engine ([a-z-]+) that loads for (\d+) ms$")]
async fn with_slow_engine(world: &mut World, engine: String, ms: String) {
    start_simulated(world, &engine, &["--load-ms", &ms]).await;
}

#[given(regex = r"^a worker with the engine ([a-z-]+) and a helper in another session$")]
async fn with_helper(world: &mut World, engine: String) {
    let file = world.dir().join("helper").to_string_lossy().into_owned();
    start_simulated(world, &engine, &["--helper", &file]).await;
    assert!(fs::read_to_string(file).unwrap().parse::<u32>().is_ok());
}

#[when(regex = r"^I start a worker with the command `(.*)`$")]
fn start_command(world: &mut World, command: String) {
    let mut words: Vec<String> = ["--engine", "llama-cpp", "--"].map(str::to_owned).to_vec();
    words.extend(shell_words::split(&command).unwrap());
    start(world, "m", &words);
}

#[then("the worker was starting before it was ready")]
fn was_starting(world: &mut World) {
    let first = world.get::<Worker>().first_status;
    assert_eq!(first, Some(WorkerStatus::Starting));
}

#[then(regex = r"^the worker becomes (ready|starting)$")]
async fn becomes(world: &mut World, status: String) {
    let status = serde_json::from_value(status.into()).unwrap();
    await_status(world, status).await;
}

#[then(regex = r"^the worker failed with ([A-Z_]+) and `(.*)`$")]
fn failed(world: &mut World, code: String, message: String) {
    let last = world.last();
    assert_eq!(last.code, Some(1), "{}", last.stderr);
    let line = last.stderr.lines().last().unwrap_or_default();
    let fatal: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    assert!(fatal.to_string().contains(&format!("\"{code}\"")), "{line}");
    assert!(line.contains(&message.replace('"', "\\\"")), "{line}");
}

#[then("no process is left")]
async fn nothing_left(world: &mut World) {
    world.nothing_left().await;
}

#[then("all slots are free")]
async fn all_free(world: &mut World) {
    let client = client(world);
    eventually(LIMIT, || async {
        let info = client.info().await.map_err(|e| e.to_string())?;
        match info.slots_free {
            2 => Ok(()),
            free => Err(format!("{free} slots are free")),
        }
    })
    .await;
}

#[then(regex = r"^the metrics of the worker contain `(.*)`$")]
async fn metrics(world: &mut World, line: String) {
    let metrics = client(world).metrics().await.unwrap();
    assert!(metrics.contains(&line), "{metrics}");
}
