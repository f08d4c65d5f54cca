//! The engine's speed, against llama.cpp on the same file.
//!
//! Each round measures one engine in a process of its own, then the other, so that a slow
//! minute of the machine falls on both; ratios are made within a round, and the median
//! round counts.

mod figures;
mod llama_cpp;
mod once;
mod process;
mod table;

pub use once::{OnceArgs, run as run_once};

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Args;
use model_maker::{Architecture, Quantization, Recipe, Shape};

use crate::machine;
use figures::{Measured, Test};
use llama_cpp::LlamaCpp;
use table::{Cell, Round};

/// How to get what `RBEE_BENCH_LLAMA_CPP` names.
pub const LLAMA_CPP_HELP: &str = "\
llama.cpp is compared with when RBEE_BENCH_LLAMA_CPP is the folder of a built llama-bench
and llama-batched-bench. The Python registry has its source:
  pip download --no-binary llama-cpp-python --no-deps llama-cpp-python
  tar xzf llama_cpp_python-*.tar.gz
  cmake -S llama_cpp_python-*/vendor/llama.cpp -B build -DCMAKE_BUILD_TYPE=Release \\
    -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF
  cmake --build build --target llama-bench llama-batched-bench
A native build by gcc 12 may end with SIGILL on machines with AMX: add -DGGML_NATIVE=OFF and
the instruction sets by name then, and say so beside the result.

Tokens per second are per second of the clock, and per second of processor time. On a
machine that does other work as well only the latter mean something, for one thread at
least: llama.cpp's threads spin while they wait, and that is processor time too.";

/// Options of `bench engine`.
#[derive(Args)]
pub struct EngineArgs {
    /// Shapes to measure.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "smollm2-135m,llama-3.2-1b"
    )]
    shape: Vec<Shape>,
    /// Types to measure.
    #[arg(
        long,
        value_delimiter = ',',
        ignore_case = true,
        default_value = "Q4_0,Q8_0,Q4_K_M,F16"
    )]
    quant: Vec<Quantization>,
    /// Numbers of threads.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Tests: prefill of 512 tokens, decode of 128 tokens, the same by several sequences.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "pp512,tg128,tg128x4,tg128x8,tg128x16"
    )]
    test: Vec<Test>,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 3)]
    count: u32,
    /// Folder with llama-bench and llama-batched-bench.
    #[arg(long, env = "RBEE_BENCH_LLAMA_CPP")]
    llama_cpp: Option<PathBuf>,
    /// Folder where models are kept between runs; absent, beside this program.
    #[arg(long)]
    models: Option<PathBuf>,
}

/// Measures every combination that was asked for, and prints one row for each.
pub fn run(args: &EngineArgs) -> Result<()> {
    let llama_cpp = args.llama_cpp.as_deref().map(LlamaCpp::new).transpose()?;
    if llama_cpp.is_none() {
        eprintln!("RBEE_BENCH_LLAMA_CPP is not set: no comparison, see --help");
    }
    let mut tests = args.test.clone();
    tests.sort_unstable();
    tests.dedup();
    println!(
        "engine: {}; random weights, median of {} rounds\n",
        machine::describe(),
        args.count
    );
    table::print_head(llama_cpp.is_some());
    let mut cells = Vec::new();
    for shape in &args.shape {
        for quantization in &args.quant {
            let model = model(args, *shape, *quantization)?;
            for threads in &args.threads {
                let rounds = (0..args.count.max(1))
                    .map(|_| round(&model, *threads, &tests, llama_cpp.as_ref()))
                    .collect::<Result<Vec<_>>>()?;
                let cell = Cell {
                    shape: *shape,
                    quantization: *quantization,
                    threads: *threads,
                    file_bytes: fs::metadata(&model)?.len(),
                    rounds,
                };
                cell.print_speed(&tests);
                cells.push(cell);
            }
        }
    }
    table::print_memory(&cells);
    Ok(())
}

fn round(
    model: &Path,
    threads: usize,
    tests: &[Test],
    llama_cpp: Option<&LlamaCpp>,
) -> Result<Round> {
    let rbee: Measured = once::measure(model, threads, tests)?;
    let llama_cpp = llama_cpp
        .map(|tools| tools.measure(model, threads, tests))
        .transpose()?;
    Ok(Round { rbee, llama_cpp })
}

/// The model's file, made when it is not there yet.
fn model(args: &EngineArgs, shape: Shape, quantization: Quantization) -> Result<PathBuf> {
    let folder = match &args.models {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()?
            .parent()
            .context("this program is in no folder")?
            .join("bench-models"),
    };
    fs::create_dir_all(&folder)?;
    let name = format!("{}-{}.gguf", table::shape_name(shape), quantization.name());
    let path = folder.join(name);
    if !path.exists() {
        eprintln!("making {}", path.display());
        Recipe::new(Architecture::Llama, shape, quantization).write_gguf(&path)?;
    }
    Ok(path)
}
