//! Implements `cargo xtask make-model`: writes a model with random weights.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool for development"
)]

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use model_maker::{Architecture, Quantization, Recipe, Shape};

/// Writes a model with random weights and a valid tokenizer.
#[derive(Parser)]
#[command(bin_name = "cargo xtask make-model")]
struct Args {
    /// Model family
    #[arg(long, default_value = "llama")]
    arch: Architecture,
    /// Layer sizes
    #[arg(long, default_value = "tiny")]
    shape: Shape,
    /// Quantization: types ending in _K are pure, all others are mixed as by llama.cpp's
    /// quantizer. Safetensors supports F32, F16 and BF16
    #[arg(long, default_value = "F16", ignore_case = true)]
    quant: Quantization,
    /// GGUF file, or Hugging Face model directory
    #[arg(long, default_value = "gguf")]
    format: Format,
    /// File or directory to write
    #[arg(long)]
    out: PathBuf,
    /// Split the GGUF file into this many parts, named after it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    parts: u16,
    /// Seed of the weights
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
    let start = Instant::now();
    let recipe = Recipe {
        seed: args.seed,
        ..Recipe::new(args.arch, args.shape, args.quant)
    };
    match args.format {
        Format::Gguf if args.parts > 1 => {
            recipe.write_gguf_parts(&args.out, args.parts.into())?;
        }
        Format::Gguf => recipe.write_gguf(&args.out)?,
        Format::Safetensors => recipe.write_directory(&args.out)?,
    }
    println!(
        "wrote {} in {:.1} s",
        args.out.display(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
