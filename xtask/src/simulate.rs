use anyhow::Result;
use clap::Args;

use crate::cargo::{cargo, succeed};

/// Options of `cargo xtask sim`, passed on; `--help` lists them.
#[derive(Args)]
pub struct SimulateArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Runs simulated clusters.
pub fn run(args: &SimulateArgs) -> Result<()> {
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--package", "cluster-simulator", "--"])
        .args(&args.rest);
    succeed(&mut command)
}
