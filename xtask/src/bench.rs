use anyhow::Result;
use clap::Args;

use crate::{
    cargo::{build_binaries, cargo, succeed},
    setup,
};

/// Options of `cargo xtask bench`, passed to the benchmark; `--help` lists them.
#[derive(Args)]
pub struct BenchArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Builds release binaries and measures them.
pub fn run(args: &BenchArgs) -> Result<()> {
    let mut command = cargo();
    command
        .args(["run", "--quiet", "--release", "--package", "bench", "--"])
        .args(&args.rest);
    let asks_for_help = args.rest.iter().any(|a| a == "--help" || a == "-h");
    let benchmark = args.rest.first().map(String::as_str);
    if let Some(
        "gateway" | "overhead" | "adapter" | "start" | "download" | "link" | "control" | "failover",
    ) = benchmark
        && !asks_for_help
    {
        if benchmark == Some("gateway") {
            setup::need_program("nginx", "nginx-light")?;
        }
        if benchmark == Some("link") {
            setup::need_program("sshd", "openssh-server")?;
        }
        if benchmark == Some("download") {
            setup::need_program("curl", "curl")?;
            setup::need_program("scp", "openssh-client")?;
        }
        command.arg("--bin-dir").arg(build_binaries(true)?);
    }
    succeed(&mut command)
}
