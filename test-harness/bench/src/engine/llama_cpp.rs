use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::figures::{DECODED_TOKENS, Figure, Measured, PROMPT_TOKENS, Test};
use crate::process::{cpu_seconds, memory};

/// Benchmark binaries of llama.cpp.
pub struct LlamaCpp {
    bench: PathBuf,
    batched_bench: PathBuf,
}

/// A line of output, with the state of the process when the line was read.
struct Line {
    text: String,
    wall: f64,
    cpu: f64,
    memory: (u64, u64),
}

impl Line {
    /// Returns the JSON object of the line; other lines have none.
    fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.text)
            .ok()
            .filter(Value::is_object)
    }
}

impl LlamaCpp {
    pub fn new(directory: &Path) -> Result<Self> {
        let binary = |name: &str| -> Result<PathBuf> {
            let path = directory.join(name);
            ensure!(path.is_file(), "{} does not exist", path.display());
            Ok(path)
        };
        Ok(Self {
            bench: binary("llama-bench")?,
            batched_bench: binary("llama-batched-bench")?,
        })
    }

    pub fn measure(&self, model: &Path, threads: usize, tests: &[Test]) -> Result<Measured> {
        let mut measured = Measured::default();
        self.measure_alone(model, threads, tests, &mut measured)?;
        let batches: Vec<u32> = tests
            .iter()
            .filter_map(|test| match test {
                Test::Decode(sequences) if *sequences > 1 => Some(*sequences),
                _ => None,
            })
            .collect();
        if !batches.is_empty() {
            self.measure_batches(model, threads, &batches, &mut measured)?;
        }
        Ok(measured)
    }

    fn measure_alone(
        &self,
        model: &Path,
        threads: usize,
        tests: &[Test],
        measured: &mut Measured,
    ) -> Result<()> {
        let count = |test: Test, tokens: u32| if tests.contains(&test) { tokens } else { 0 };
        let prompt = count(Test::Prefill, PROMPT_TOKENS);
        let decoded = count(Test::Decode(1), DECODED_TOKENS);
        let mut command = Command::new(&self.bench);
        command
            .arg("-m")
            .arg(model)
            // The extra token keeps the process alive until its state is read with the last
            // result.
            .args(["-p", &prompt.to_string(), "-n", &format!("{decoded},1")])
            .args(["-t", &threads.to_string(), "-r", "1"])
            .args(["-o", "jsonl", "--progress"]);
        let lines = lines(command)?;
        let loaded = lines.iter().find(|line| line.text.contains("warmup"));
        measured.load = loaded.context("llama-bench printed no warmup line")?.wall;
        let memory = |of: fn(&Line) -> u64| lines.iter().map(of).max().unwrap_or(0);
        measured.resident = memory(|line| line.memory.0);
        measured.peak = memory(|line| line.memory.1);
        for pair in lines.windows(2) {
            let [begin, end] = pair else { continue };
            let Some(result) = end.json() else { continue };
            let wall = result["samples_ns"][0].as_f64().context("no samples_ns")? / 1e9;
            let cpu = end.cpu - begin.cpu;
            let test = match (result["n_prompt"].as_u64(), result["n_gen"].as_u64()) {
                (Some(tokens), _) if tokens > 0 => Test::Prefill,
                (_, Some(tokens)) if tokens == u64::from(DECODED_TOKENS) => Test::Decode(1),
                _ => continue,
            };
            measured.figures.insert(test, Figure { wall, cpu });
        }
        Ok(())
    }

    fn measure_batches(
        &self,
        model: &Path,
        threads: usize,
        batches: &[u32],
        measured: &mut Measured,
    ) -> Result<()> {
        let list: Vec<String> = batches.iter().map(u32::to_string).collect();
        let most = batches.iter().max().copied().unwrap_or(1);
        let context = (most * (DECODED_TOKENS + 1)).next_multiple_of(256 * most);
        let mut command = Command::new(&self.batched_bench);
        command
            .arg("-m")
            .arg(model)
            // The token before marks the start of the first test, the token after keeps the
            // process alive until its state is read with the last result.
            .args(["-npp", "1", "-ntg", &format!("1,{DECODED_TOKENS},1")])
            .args(["-npl", &list.join(","), "-c", &context.to_string()])
            .args(["-t", &threads.to_string()])
            .args(["--output-format", "jsonl"]);
        let lines = lines(command)?;
        let results: Vec<(&Line, Value)> = lines
            .iter()
            .filter_map(|line| Some((line, line.json()?)))
            .collect();
        for pair in results.windows(2) {
            let [(begin, _), (end, result)] = pair else {
                continue;
            };
            let number = |key: &str| result[key].as_f64().with_context(|| format!("no {key}"));
            if number("tg")? as u32 != DECODED_TOKENS {
                continue;
            }
            let (wall, total) = (number("t_tg")?, number("t")?);
            // `t` includes the prefill of one token, about a hundredth of it.
            let cpu = (end.cpu - begin.cpu) * wall / total;
            let test = Test::Decode(number("pl")? as u32);
            measured.figures.insert(test, Figure { wall, cpu });
        }
        ensure!(
            results.len() == 3 * batches.len(),
            "llama-batched-bench printed {} results for {} tests",
            results.len(),
            3 * batches.len()
        );
        Ok(())
    }
}

/// Runs a command until it exits and returns all lines of its stdout and stderr.
fn lines(mut command: Command) -> Result<Vec<Line>> {
    let (reader, writer) = std::io::pipe()?;
    let begun = Instant::now();
    let mut process = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    // The command holds a copy of the writer, which would keep the pipe open.
    let shown = format!("{command:?}");
    drop(command);
    let mut lines = Vec::new();
    for text in BufReader::new(reader).lines() {
        let text = text?;
        let cpu = cpu_seconds(process.id())?;
        // A process that has exited has no memory.
        let memory = memory(process.id()).unwrap_or_default();
        lines.push(Line {
            text,
            wall: begun.elapsed().as_secs_f64(),
            cpu,
            memory,
        });
    }
    let status = process.wait()?;
    let last = lines.last().map_or("", |line| &line.text);
    ensure!(status.success(), "{shown} exited with {status}: {last}");
    Ok(lines)
}
