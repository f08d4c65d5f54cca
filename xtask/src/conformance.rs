use anyhow::Result;
use clap::Args;

use crate::cargo::{cargo, succeed};

/// Options of `cargo xtask conformance`, passed on; `--help` lists them.
#[derive(Args)]
pub struct ConformanceArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Checks a worker against the worker contract.
pub fn run(args: &ConformanceArgs) -> Result<()> {
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--package", "worker-conformance", "--"])
        .args(&args.rest);
    succeed(&mut command)
}
