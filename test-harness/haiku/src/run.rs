use std::{
    collections::BTreeMap,
    fs, io,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use input_validation::NodeName;
use serde_json::{Value, json};
use state_files::Home;

use crate::judge::{minute_word, prompt, text_misses};

/// Maximum time from the start of `rbee-keeper infer` to its exit.
const MAX_DURATION: Duration = Duration::from_secs(30);
const MAX_TOKENS: u32 = 100;

/// Options of a test run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory of the rbee binaries.
    pub bin_dir: PathBuf,
    /// State directory (`RBEE_HOME`) for this run only.
    pub home: PathBuf,
    /// Model; `None` is the default model of `rbee-keeper infer`.
    pub model: Option<String>,
    /// `cpu`, `cuda` or `metal`.
    pub backend: String,
    /// Node that must run the model; `None` allows every node.
    pub node: Option<String>,
    /// Additional environment variables for all processes.
    pub environment: BTreeMap<String, String>,
    /// Whether to print the tokens as they arrive.
    pub show: bool,
}

/// Result of a test run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Failed checks; empty if the test passed.
    pub misses: Vec<String>,
    /// The complete report as JSON.
    pub details: Value,
}

impl Report {
    pub fn passed(&self) -> bool {
        self.misses.is_empty()
    }
}

/// Runs the test: starts a queen, loads the model, requests a haiku, checks it, and stops all
/// processes. Returns `Err` if the test could not run.
pub fn run(options: &Options) -> Result<Report, String> {
    let result = request_haiku(options);
    let stopped = keeper(options, &["queen", "stop"]).and_then(|mut command| {
        let output = command.output().map_err(|e| e.to_string())?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    });
    let mut report = result?;
    if let Err(e) = stopped {
        report
            .misses
            .push(format!("`rbee-keeper queen stop` failed: {e}"));
    }
    Ok(report)
}

fn request_haiku(options: &Options) -> Result<Report, String> {
    warm_up(options)?;
    let minute = current_minute()?;
    let report = request_with_minute(options, minute)?;
    if report.passed() || current_minute()? == minute {
        return Ok(report);
    }
    // The minute changed during the request, so the word may have been the old one: retry once.
    request_with_minute(options, current_minute()?)
}

fn current_minute() -> Result<u32, String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|e| e.to_string())?;
    Ok((now.as_secs() / 60 % 60) as u32)
}

fn keeper(options: &Options, args: &[&str]) -> Result<Command, String> {
    let binary = options.bin_dir.join("rbee-keeper");
    if !binary.exists() {
        return Err(format!(
            "{} does not exist: build the binaries first",
            binary.display()
        ));
    }
    let mut command = Command::new(binary);
    command
        .env("RBEE_HOME", &options.home)
        .env("RBEE_QUEEN_PORT", "0")
        .env("RBEE_HIVE_PORT", "0")
        .env("RBEE_WORKER_PORTS", "0")
        .env_remove("RBEE_QUEEN_URL")
        .envs(&options.environment)
        .args(args)
        .stdin(Stdio::null());
    Ok(command)
}

fn infer_args(options: &Options) -> Vec<String> {
    let mut args: Vec<String> = ["--json", "infer", "--backend", &options.backend]
        .map(str::to_owned)
        .to_vec();
    for (flag, value) in [("--model", &options.model), ("--node", &options.node)] {
        if let Some(value) = value {
            args.extend([flag.to_owned(), value.clone()]);
        }
    }
    args
}

/// Starts all processes and loads the model before the request whose duration counts.
fn warm_up(options: &Options) -> Result<(), String> {
    let mut args = infer_args(options);
    args.extend(["--max-tokens", "1", "hello"].map(str::to_owned));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = keeper(options, &args)?
        .output()
        .map_err(|e| format!("cannot run rbee-keeper: {e}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!(
            "loading the model failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// Events of one request.
#[derive(Default)]
struct Received {
    names: Vec<String>,
    text: String,
    tokens: u64,
    assigned: Value,
    started: Value,
    end: Value,
    error: Value,
}

fn request_with_minute(options: &Options, minute: u32) -> Result<Report, String> {
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|e| e.to_string())?
        .subsec_nanos() as u64
        ^ u64::from(std::process::id()) << 32;
    let (word, nonce) = (minute_word(minute), nonce(seed));
    let prompt = prompt(&word, &nonce);

    let before = tokens_generated(options)?;
    let begun = Instant::now();
    let received = stream(options, &prompt, seed)?;
    let took = begun.elapsed();
    let after = tokens_generated(options)?;

    let mut misses = text_misses(&received.text, &word);
    if !received.error.is_null() {
        misses.push(format!("the request failed: {}", received.error));
    }
    let order: Vec<&str> = received.names.iter().map(String::as_str).collect();
    let in_order = matches!(order.as_slice(), ["started", tokens @ .., "end"]
        if !tokens.is_empty() && tokens.iter().all(|name| *name == "token"));
    if !in_order {
        misses.push(format!(
            "the events are {order:?}, not started, token …, end"
        ));
    }
    if received.tokens > u64::from(MAX_TOKENS) {
        misses.push(format!(
            "{} tokens were streamed, more than {MAX_TOKENS}",
            received.tokens
        ));
    }
    let counted = after.0.saturating_sub(before.0);
    if counted != received.tokens {
        misses.push(format!(
            "the worker counted {counted} tokens, {} were streamed",
            received.tokens
        ));
    }
    let device = received.assigned["device"]
        .as_str()
        .unwrap_or("")
        .to_owned();
    let expected = if options.backend == "cpu" {
        "CPU-"
    } else {
        "GPU-"
    };
    if !device.starts_with(expected) {
        misses.push(format!(
            "the request ran on \"{device}\", not on a {} device",
            options.backend
        ));
    }
    if took > MAX_DURATION {
        misses.push(format!(
            "the request took {took:?}, more than {MAX_DURATION:?}"
        ));
    }
    Ok(Report {
        details: json!({
            "passed": misses.is_empty(),
            "misses": misses,
            "prompt": prompt,
            "word": word,
            "text": received.text,
            "seconds": took.as_secs_f64(),
            "tokens": received.tokens,
            "assigned": received.assigned,
            "started": received.started,
            "end": received.end,
            "worker": after.1,
        }),
        misses,
    })
}

/// Returns eight characters that make the prompt unique.
fn nonce(seed: u64) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789";
    let mut state = seed | 1;
    (0..8)
        .map(|_| {
            // xorshift64 (Marsaglia 2003)
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ALPHABET[(state % ALPHABET.len() as u64) as usize] as char
        })
        .collect()
}

fn stream(options: &Options, prompt: &str, seed: u64) -> Result<Received, String> {
    let mut args = infer_args(options);
    let (max_tokens, seed) = (MAX_TOKENS.to_string(), seed.to_string());
    args.extend(
        [
            "--max-tokens",
            &max_tokens,
            "--temperature",
            "0.7",
            "--top-p",
            "0.9",
            "--seed",
            &seed,
            prompt,
        ]
        .map(str::to_owned),
    );
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut child = keeper(options, &args)?
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot run rbee-keeper: {e}"))?;
    let mut received = Received::default();
    let stdout = child.stdout.take().ok_or("rbee-keeper has no stdout")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(|e| e.to_string())?;
        let event: Value =
            serde_json::from_str(&line).map_err(|e| format!("not an event: {line}: {e}"))?;
        add(&mut received, &event, options.show).map_err(|e| e.to_string())?;
    }
    child.wait().map_err(|e| e.to_string())?;
    Ok(received)
}

fn add(received: &mut Received, event: &Value, show: bool) -> io::Result<()> {
    let name = event["event"].as_str().unwrap_or("").to_owned();
    let data = event["data"].clone();
    match name.as_str() {
        "assigned" => {
            received.assigned = data;
            return Ok(());
        }
        "narration" | "waiting" | "metrics" => return Ok(()),
        "token" => {
            let text = data["t"].as_str().unwrap_or("");
            if show {
                let mut out = io::stdout();
                out.write_all(text.as_bytes())?;
                out.flush()?;
            }
            received.text.push_str(text);
            received.tokens += 1;
        }
        "started" => received.started = data,
        "end" => received.end = data,
        "error" => received.error = data,
        _ => {}
    }
    received.names.push(name);
    Ok(())
}

/// Returns the number of tokens that all workers have generated so far, from their metrics,
/// and the queen's list of workers.
fn tokens_generated(options: &Options) -> Result<(u64, Value), String> {
    let output = keeper(options, &["--json", "worker", "list"])?
        .output()
        .map_err(|e| e.to_string())?;
    let list: Value = serde_json::from_slice(&output.stdout).map_err(|e| {
        format!(
            "the output of `rbee-keeper worker list` is not JSON: {e}: {}",
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    let token = fs::read_to_string(Home::at(&options.home).node_token(&NodeName::local()))
        .map_err(|e| format!("cannot read the token of the node: {e}"))?;
    let mut sum = 0;
    for worker in list["workers"].as_array().into_iter().flatten() {
        let port = worker["port"]
            .as_u64()
            .ok_or("a worker in the list has no port")?;
        let metrics = get(port as u16, "/metrics", token.trim()).map_err(|e| e.to_string())?;
        sum += metrics
            .lines()
            .find_map(|line| line.strip_prefix("rbee_worker_tokens_generated_total"))
            .and_then(|rest| rest.rsplit(' ').next())
            .and_then(|value| value.parse::<u64>().ok())
            .ok_or("the metrics of a worker have no token counter")?;
    }
    Ok((sum, list))
}

fn get(port: u16, path: &str, token: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}
