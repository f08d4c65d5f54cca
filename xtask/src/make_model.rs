use anyhow::Result;
use clap::Args;

use crate::cargo::{cargo, succeed};

/// Options of `cargo xtask make-model`: those of the maker, which `--help` shows.
#[derive(Args)]
pub struct MakeModelArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds the maker and runs it where it was asked for, so that relative paths mean what
/// they say.
pub fn run(args: &MakeModelArgs) -> Result<()> {
    let mut command = cargo();
    command
        .current_dir(std::env::current_dir()?)
        .args(["run", "--quiet", "--package", "model-maker", "--"])
        .args(&args.rest);
    succeed(&mut command)
}
