use anyhow::Result;
use clap::Args;

use crate::cargo::{cargo, succeed};

/// Options of `cargo xtask worker-catalog`, passed on; `--help` lists them.
#[derive(Args)]
pub struct WorkerCatalogArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Writes the catalog of packages of workers.
pub fn run(args: &WorkerCatalogArgs) -> Result<()> {
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--package", "catalog-writer", "--"])
        .args(&args.rest);
    succeed(&mut command)
}
