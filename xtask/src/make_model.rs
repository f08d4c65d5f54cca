use anyhow::Result;
use clap::Args;

use crate::cargo::{cargo, succeed};

/// Options of `cargo xtask make-model`, passed to model-maker; `--help` lists them.
#[derive(Args)]
pub struct MakeModelArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds model-maker and runs it in the current directory, so that relative paths work.
pub fn run(args: &MakeModelArgs) -> Result<()> {
    let mut command = cargo();
    command
        .current_dir(std::env::current_dir()?)
        .args(["run", "--quiet", "--package", "model-maker", "--"])
        .args(&args.rest);
    succeed(&mut command)
}
