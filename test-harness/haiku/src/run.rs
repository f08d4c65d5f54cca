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

/// Longest from the first byte of the request to the last of the answer.
const LIMIT: Duration = Duration::from_secs(30);
const MAX_TOKENS: u32 = 100;

/// How the test is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the programs.
    pub bin_dir: PathBuf,
    /// A state folder of the test's own.
    pub home: PathBuf,
    /// What to ask for, when not the default.
    pub model: Option<String>,
    /// `cpu`, `cuda` or `metal`.
    pub backend: String,
    /// Only this node.
    pub node: Option<String>,
    /// Extra environment for every program.
    pub environment: BTreeMap<String, String>,
    /// Show the tokens as they come, and what happens meanwhile.
    pub show: bool,
}

/// What happened, for people and programs.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was wrong; empty when the test passed.
    pub misses: Vec<String>,
    /// Everything that was seen.
    pub details: Value,
}

impl Report {
    /// Whether the test passed.
    pub fn passed(&self) -> bool {
        self.misses.is_empty()
    }
}

/// Runs the test: starts a queen of its own, loads the model, asks, judges, and stops
/// everything. `Err` is what kept it from being run at all.
pub fn run(options: &Options) -> Result<Report, String> {
    let result = ask_until_the_minute_holds(options);
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
        report.misses.push(format!("stopping failed: {e}"));
    }
    Ok(report)
}

fn ask_until_the_minute_holds(options: &Options) -> Result<Report, String> {
    warm_up(options)?;
    let minute = current_minute()?;
    let report = ask(options, minute)?;
    if report.passed() || current_minute()? == minute {
        return Ok(report);
    }
    // The minute changed in between, so the word was not of the minute: the one retry.
    ask(options, current_minute()?)
}

fn current_minute() -> Result<u32, String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|e| e.to_string())?;
    Ok((now.as_secs() / 60 % 60) as u32)
}

fn keeper(options: &Options, args: &[&str]) -> Result<Command, String> {
    let program = options.bin_dir.join("rbee-keeper");
    if !program.exists() {
        return Err(format!("{} is not built", program.display()));
    }
    let mut command = Command::new(program);
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

/// Starts everything and loads the model, so that what is judged is a loaded model.
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

/// The events of one answer, as they came.
#[derive(Default)]
struct Seen {
    names: Vec<String>,
    text: String,
    tokens: u64,
    assigned: Value,
    started: Value,
    end: Value,
    error: Value,
}

fn ask(options: &Options, minute: u32) -> Result<Report, String> {
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|e| e.to_string())?
        .subsec_nanos() as u64
        ^ u64::from(std::process::id()) << 32;
    let (word, nonce) = (minute_word(minute), nonce(seed));
    let question = prompt(&word, &nonce);

    let before = tokens_generated(options)?;
    let begun = Instant::now();
    let seen = stream(options, &question, seed)?;
    let took = begun.elapsed();
    let after = tokens_generated(options)?;

    let mut misses = text_misses(&seen.text, &word);
    if !seen.error.is_null() {
        misses.push(format!("the answer is an error: {}", seen.error));
    }
    let order: Vec<&str> = seen.names.iter().map(String::as_str).collect();
    if order.first() != Some(&"started") || order.last() != Some(&"end") || seen.tokens == 0 {
        misses.push(format!(
            "the events are not started, token …, end: {order:?}"
        ));
    }
    if seen.tokens > u64::from(MAX_TOKENS) {
        misses.push(format!("{} tokens, more than {MAX_TOKENS}", seen.tokens));
    }
    let rose = after.0.saturating_sub(before.0);
    if rose != seen.tokens {
        misses.push(format!(
            "the worker counted {rose} tokens, {} were streamed",
            seen.tokens
        ));
    }
    let device = seen.assigned["device"].as_str().unwrap_or("").to_owned();
    let expected = if options.backend == "cpu" {
        "CPU-"
    } else {
        "GPU-"
    };
    if !device.starts_with(expected) {
        misses.push(format!(
            "it ran on \"{device}\", not on {}",
            options.backend
        ));
    }
    if took > LIMIT {
        misses.push(format!("it took {took:?}, more than {LIMIT:?}"));
    }
    Ok(Report {
        details: json!({
            "passed": misses.is_empty(),
            "misses": misses,
            "prompt": question,
            "word": word,
            "text": seen.text,
            "seconds": took.as_secs_f64(),
            "tokens": seen.tokens,
            "assigned": seen.assigned,
            "started": seen.started,
            "end": seen.end,
            "worker": after.1,
        }),
        misses,
    })
}

/// Eight characters that no text has seen before.
fn nonce(seed: u64) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789";
    let mut state = seed | 1;
    (0..8)
        .map(|_| {
            // xorshift64 (Marsaglia 2003): plenty for a name.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ALPHABET[(state % ALPHABET.len() as u64) as usize] as char
        })
        .collect()
}

fn stream(options: &Options, question: &str, seed: u64) -> Result<Seen, String> {
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
            question,
        ]
        .map(str::to_owned),
    );
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut child = keeper(options, &args)?
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot run rbee-keeper: {e}"))?;
    let mut seen = Seen::default();
    let stdout = child.stdout.take().ok_or("no output of rbee-keeper")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(|e| e.to_string())?;
        let event: Value =
            serde_json::from_str(&line).map_err(|e| format!("not an event: {line}: {e}"))?;
        take(&mut seen, &event, options.show).map_err(|e| e.to_string())?;
    }
    child.wait().map_err(|e| e.to_string())?;
    Ok(seen)
}

fn take(seen: &mut Seen, event: &Value, show: bool) -> io::Result<()> {
    let name = event["event"].as_str().unwrap_or("").to_owned();
    let data = event["data"].clone();
    match name.as_str() {
        "assigned" => seen.assigned = data,
        "narration" => {}
        "token" => {
            let text = data["t"].as_str().unwrap_or("");
            if show {
                let mut out = io::stdout();
                out.write_all(text.as_bytes())?;
                out.flush()?;
            }
            seen.text.push_str(text);
            seen.tokens += 1;
            seen.names.push(name);
        }
        "started" => {
            seen.started = data;
            seen.names.push(name);
        }
        "end" => {
            seen.end = data;
            seen.names.push(name);
        }
        "error" => {
            seen.error = data;
            seen.names.push(name);
        }
        _ => {
            if name != "metrics" {
                seen.names.push(name);
            }
        }
    }
    Ok(())
}

/// Tokens that all workers have generated so far, asked of the workers themselves, and what
/// the queen says about them.
fn tokens_generated(options: &Options) -> Result<(u64, Value), String> {
    let output = keeper(options, &["--json", "worker", "list"])?
        .output()
        .map_err(|e| e.to_string())?;
    let list: Value = serde_json::from_slice(&output.stdout).map_err(|e| {
        format!(
            "the list of workers is not JSON: {e}: {}",
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    let token = fs::read_to_string(Home::at(&options.home).node_token(&NodeName::local()))
        .map_err(|e| format!("the node's token: {e}"))?;
    let mut sum = 0;
    for worker in list["workers"].as_array().into_iter().flatten() {
        let port = worker["port"].as_u64().ok_or("a worker without a port")?;
        let metrics = get(port as u16, "/metrics", token.trim()).map_err(|e| e.to_string())?;
        sum += metrics
            .lines()
            .find_map(|line| line.strip_prefix("rbee_worker_tokens_generated_total"))
            .and_then(|rest| rest.rsplit(' ').next())
            .and_then(|value| value.parse::<u64>().ok())
            .ok_or("a worker without a token counter")?;
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
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
