use anyhow::Result;
use clap::Args;

use crate::{
    cargo::{build_binaries, cargo, succeed},
    setup,
};

/// Options of `cargo xtask soak`, passed on; `--help` lists them.
#[derive(Args)]
pub struct SoakArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds the binaries and runs them under load while something fails.
pub fn run(args: &SoakArgs) -> Result<()> {
    setup::need_program("sshd", "openssh-server")?;
    let bin_dir = build_binaries(false)?;
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--package", "soak", "--", "--bin-dir"])
        .arg(bin_dir)
        .args(&args.rest);
    succeed(&mut command)
}
