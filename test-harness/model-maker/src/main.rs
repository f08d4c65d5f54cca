//! `cargo xtask make-model`: writes a model with random weights.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program of the project's own"
)]

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use model_maker::{Architecture, Quantization, Recipe, Shape};

/// Writes a model with random weights and a valid tokenizer.
#[derive(Parser)]
#[command(bin_name = "cargo xtask make-model")]
struct Args {
    /// The family.
    #[arg(long, default_value = "llama")]
    arch: Architecture,
    /// The sizes.
    #[arg(long, default_value = "tiny")]
    shape: Shape,
    /// How weights are stored; those ending in _K are pure, F32 to Q8_0 and those ending in
    /// _M are as llama.cpp's quantiser mixes them. Safetensors takes F32, F16 and BF16.
    #[arg(long, default_value = "F16", ignore_case = true)]
    quant: Quantization,
    /// One GGUF file, or a folder as Hugging Face has them.
    #[arg(long, default_value = "gguf")]
    format: Format,
    /// The file or folder to write.
    #[arg(long)]
    out: PathBuf,
    /// Other seeds give other weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Gguf,
    Safetensors,
}

fn main() -> ExitCode {
    match make(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn make(args: &Args) -> Result<()> {
    let begun = Instant::now();
    let recipe = Recipe {
        seed: args.seed,
        ..Recipe::new(args.arch, args.shape, args.quant)
    };
    match args.format {
        Format::Gguf => recipe.write_gguf(&args.out)?,
        Format::Safetensors => recipe.write_folder(&args.out)?,
    }
    println!(
        "wrote {} in {:.1} s",
        args.out.display(),
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}
