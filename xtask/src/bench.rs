use anyhow::Result;
use clap::Args;

use crate::{
    cargo::{build_programs, cargo, succeed},
    setup,
};

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// What to measure: `gateway` (what the queen adds, against nginx) or `engine` (tokens
    /// per second of the embedded model).
    #[arg(value_parser = ["gateway", "engine"])]
    pub what: String,
    /// Requests for each row, or repetitions; the default takes about a minute.
    #[arg(long)]
    pub count: Option<u32>,
}

/// Builds optimised programs and measures them.
pub fn run(args: &BenchArgs) -> Result<()> {
    if args.what == "gateway" {
        setup::need_program("nginx", "nginx-light")?;
    }
    let bin_dir = build_programs(true)?;
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--release", "--package", "bench", "--"])
        .arg(&args.what)
        .arg("--bin-dir")
        .arg(bin_dir);
    if let Some(count) = args.count {
        command.arg("--count").arg(count.to_string());
    }
    succeed(&mut command)
}
