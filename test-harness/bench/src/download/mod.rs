mod copies;
mod kills;
mod once;
mod throughput;

pub use once::{OnceArgs, run_once};

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use clap::Args;
use sim::files::{Content, FileServer, Served};

use crate::machine;

/// Path of the file on the server.
const PATH: &str = "/model.gguf";

/// Options of the benchmark.
#[derive(Args)]
pub struct DownloadArgs {
    /// Size of the file in megabytes
    #[arg(long, default_value_t = 2000)]
    size: u64,
    /// How often the process that fetches is killed; 0 leaves this part out
    #[arg(long, default_value_t = 50)]
    kills: u32,
    /// Rounds of the comparisons with curl and scp, of which the median counts; 0 leaves them out
    #[arg(long, default_value_t = 5)]
    count: u32,
    /// Directory of the rbee binaries; set by the xtask
    #[arg(long)]
    bin_dir: PathBuf,
    /// Directory for the files, by default that for temporary files
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Kills transfers at random moments, then compares their throughput with that of curl, and that
/// of copies from node to node with scp. The server runs in this process, and the transfers in
/// others.
pub async fn run(args: &DownloadArgs) -> Result<()> {
    let dir = match &args.dir {
        Some(dir) => tempfile::Builder::new()
            .prefix("rbee-bench-")
            .tempdir_in(dir),
        None => tempfile::Builder::new().prefix("rbee-bench-").tempdir(),
    }?;
    println!(
        "download: {}; {} MB from a server on the same cores",
        machine::describe(),
        args.size
    );
    let server = FileServer::start().await?;
    let content = Content::new(1, args.size * 1_000_000);
    let setting = Setting {
        url: server.put(PATH, Served::on_hub(content)),
        server,
        size: content.size(),
        sha256: hex::encode(content.sha256()),
        target: dir.path().join("model.gguf"),
    };
    if args.kills > 0 {
        kills::run(&setting, args.kills).await?;
    }
    if args.count > 0 {
        throughput::run(&setting, args.count).await?;
        copies::run(&args.bin_dir, dir.path(), setting.size, args.count).await?;
    }
    Ok(())
}

/// What is fetched, from where, to where.
struct Setting {
    server: FileServer,
    url: String,
    size: u64,
    sha256: String,
    target: PathBuf,
}

impl Setting {
    /// A process that fetches the file.
    fn transfer(&self) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("no own executable")?);
        command.args(["download-once", &self.url, "--sha256", &self.sha256]);
        command.arg("--target").arg(&self.target);
        Ok(command)
    }
}
