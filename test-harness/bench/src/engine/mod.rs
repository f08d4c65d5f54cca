//! Speed of the engine, compared with llama.cpp on the same file.
//!
//! Each round measures both engines, one after the other, each in its own process, so that a
//! slow minute of the machine affects both. Ratios are computed within a round; the median of
//! the rounds counts.

mod figures;
mod llama_cpp;
mod once;
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

/// Instructions to build the binaries for `RBEE_BENCH_LLAMA_CPP`.
pub const LLAMA_CPP_HELP: &str = "\
Set RBEE_BENCH_LLAMA_CPP to the directory of llama-bench and llama-batched-bench to compare
with llama.cpp. To build them from the source package on PyPI:
  pip download --no-binary llama-cpp-python --no-deps llama-cpp-python
  tar xzf llama_cpp_python-*.tar.gz
  cmake -S llama_cpp_python-*/vendor/llama.cpp -B build -DCMAKE_BUILD_TYPE=Release \\
    -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF
  cmake --build build --target llama-bench llama-batched-bench
A native build with gcc 12 may be killed by SIGILL on machines with AMX. In this case, use
-DGGML_NATIVE=OFF, enable the instruction sets by name, and mention it with the result.

Tokens per second are reported per second of wall time and per second of CPU time. On a busy
machine only CPU time is meaningful, and only for one thread: llama.cpp's threads spin while
they wait, which is CPU time too.";

/// Options of `bench engine`.
#[derive(Args)]
pub struct EngineArgs {
    /// Model shapes
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "smollm2-135m,llama-3.2-1b"
    )]
    shape: Vec<Shape>,
    /// Quantizations
    #[arg(
        long,
        value_delimiter = ',',
        ignore_case = true,
        default_value = "Q4_0,Q8_0,Q4_K_M,F16"
    )]
    quant: Vec<Quantization>,
    /// Numbers of threads
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Tests: prefill of 512 tokens (pp512), decode of 128 tokens by one sequence (tg128) or
    /// several (tg128xN)
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "pp512,tg128,tg128x4,tg128x8,tg128x16"
    )]
    test: Vec<Test>,
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 3)]
    count: u32,
    /// Directory of llama-bench and llama-batched-bench
    #[arg(long, env = "RBEE_BENCH_LLAMA_CPP")]
    llama_cpp: Option<PathBuf>,
    /// Directory that keeps models between runs [default: next to this binary]
    #[arg(long)]
    models: Option<PathBuf>,
}

/// Measures all combinations of the options and prints one row for each.
pub fn run(args: &EngineArgs) -> Result<()> {
    let llama_cpp = args.llama_cpp.as_deref().map(LlamaCpp::new).transpose()?;
    if llama_cpp.is_none() {
        eprintln!("RBEE_BENCH_LLAMA_CPP is not set: no comparison with llama.cpp, see --help");
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

/// Returns the path of the model, which is created if it does not exist.
fn model(args: &EngineArgs, shape: Shape, quantization: Quantization) -> Result<PathBuf> {
    let directory = match &args.models {
        Some(directory) => directory.clone(),
        None => std::env::current_exe()?
            .parent()
            .context("the path of this binary has no parent directory")?
            .join("bench-models"),
    };
    fs::create_dir_all(&directory)?;
    let name = format!("{}-{}.gguf", table::shape_name(shape), quantization.name());
    let path = directory.join(name);
    if !path.exists() {
        eprintln!("creating {}", path.display());
        Recipe::new(Architecture::Llama, shape, quantization).write_gguf(&path)?;
    }
    Ok(path)
}
