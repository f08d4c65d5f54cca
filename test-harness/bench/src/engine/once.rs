use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio, id},
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;
use engine_candle::{CandleEngine, LoadOptions, load, thread_environment};
use inference_execution::{Batch, BlockId, Chunk, Engine as _, SequenceId};
use serde_json::{Value, json};

use super::figures::{DECODED_TOKENS, Figure, MAX_SEQUENCES, Measured, PROMPT_TOKENS, Test};
use crate::process::{cpu_seconds, memory};

/// Tokens of the longest sequence.
const CONTEXT: u32 = PROMPT_TOKENS + DECODED_TOKENS;

/// Options of `engine-once`.
#[derive(Args)]
pub struct OnceArgs {
    #[arg(long)]
    model: PathBuf,
    #[arg(long)]
    threads: usize,
    #[arg(long, value_delimiter = ',')]
    test: Vec<Test>,
}

/// Runs [`run`] in its own process, so that memory and load time are those of one model.
pub fn measure(model: &Path, threads: usize, tests: &[Test]) -> Result<Measured> {
    let tests: Vec<String> = tests.iter().map(Test::to_string).collect();
    let begun = Instant::now();
    let mut process = Command::new(std::env::current_exe()?)
        .arg("engine-once")
        .arg("--model")
        .arg(model)
        .args([
            "--threads",
            &threads.to_string(),
            "--test",
            &tests.join(","),
        ])
        .envs(thread_environment(threads))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = process.stdout.take().context("no stdout")?;
    let mut measured = Measured::default();
    for line in BufReader::new(lines).lines() {
        let line: Value = serde_json::from_str(&line?)?;
        let number = |key: &str| line[key].as_f64().with_context(|| format!("no {key}"));
        if line["event"] == "loaded" {
            measured.load = begun.elapsed().as_secs_f64();
        } else if line["event"] == "memory" {
            measured.resident = number("resident")? as u64;
            measured.peak = number("peak")? as u64;
        } else {
            let test = line["test"].as_str().context("no test")?.parse()?;
            let (wall, cpu) = (number("wall")?, number("cpu")?);
            measured.figures.insert(test, Figure { wall, cpu });
        }
    }
    let status = process.wait()?;
    ensure!(
        status.success(),
        "the process of rbee's engine exited with {status}"
    );
    Ok(measured)
}

/// Measures one model in this process and prints one line of JSON for each event.
pub fn run(args: &OnceArgs) -> Result<()> {
    let header = model_format::inspect(&args.model).map_err(|e| anyhow!("{e}"))?;
    let token_bytes = u64::from(2 * header.layers * header.kv_heads * header.head_dim) * 4;
    // Sequences do not share blocks: each needs room for a partly filled one.
    let tokens = (MAX_SEQUENCES * (DECODED_TOKENS + 64)).max(CONTEXT + 64);
    let options = LoadOptions {
        context_length: Some(CONTEXT.min(header.context_length)),
        kv_cache_bytes: Some(token_bytes * u64::from(tokens)),
        threads: Some(args.threads),
        ..LoadOptions::default()
    };
    let mut engine = load(&args.model, options)
        .map_err(|e| anyhow!("{e}"))?
        .engine;
    println!("{}", json!({"event": "loaded"}));
    // Warm up threads and caches.
    step(&mut engine, 1, 0, 32)?;
    step(&mut engine, 1, 32, 1)?;
    let mut tests = args.test.clone();
    tests.sort_unstable();
    let alone = |test: &Test| *test <= Test::Decode(1);
    for test in tests.iter().filter(|test| alone(test)) {
        report(&mut engine, *test)?;
    }
    let (resident, peak) = memory(id())?;
    println!(
        "{}",
        json!({"event": "memory", "resident": resident, "peak": peak})
    );
    for test in tests.iter().filter(|test| !alone(test)) {
        report(&mut engine, *test)?;
    }
    Ok(())
}

fn report(engine: &mut CandleEngine, test: Test) -> Result<()> {
    let (begun, before) = (Instant::now(), cpu_seconds(id())?);
    match test {
        Test::Prefill => step(engine, 1, 0, PROMPT_TOKENS)?,
        Test::Decode(sequences) => {
            for position in 0..DECODED_TOKENS {
                step(engine, sequences, position, 1)?;
            }
        }
    }
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds(id())? - before);
    println!(
        "{}",
        json!({"test": test.to_string(), "wall": wall, "cpu": cpu})
    );
    Ok(())
}

/// Computes `tokens` tokens of every sequence, beginning at `position`.
fn step(engine: &mut CandleEngine, sequences: u32, position: u32, tokens: u32) -> Result<()> {
    let block_tokens = engine.kv().block_tokens();
    let vocabulary = engine.describe().vocab_size;
    let longest = match sequences {
        1 => CONTEXT,
        _ => DECODED_TOKENS,
    };
    let blocks = longest.div_ceil(block_tokens);
    let chunks = (0..sequences)
        .map(|sequence| Chunk {
            sequence: SequenceId(u64::from(sequence)),
            tokens: (position..position + tokens)
                .map(|at| (100 + 37 * at + 1009 * sequence) % vocabulary)
                .collect(),
            position,
            blocks: (0..blocks)
                .map(|block| BlockId(sequence * blocks + block))
                .collect(),
            wants_logits: true,
        })
        .collect();
    engine.step(&Batch { chunks })?;
    Ok(())
}
