use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use file_transfer::{Downloader, RemoteFile, TransferSettings};
use tokio_util::sync::CancellationToken;

use crate::process;

/// Options of one transfer.
#[derive(Args)]
pub struct OnceArgs {
    url: String,
    #[arg(long)]
    sha256: String,
    #[arg(long)]
    target: PathBuf,
}

/// Fetches a file, and prints the peak of this process's memory and its CPU seconds.
pub async fn run_once(args: &OnceArgs) -> Result<()> {
    let settings = TransferSettings {
        reserve_bytes: 0,
        ..TransferSettings::default()
    };
    let mut sha256 = [0; 32];
    hex::decode_to_slice(&args.sha256, &mut sha256)?;
    let file = RemoteFile {
        url: args.url.clone(),
        bearer: None,
        size: None,
        sha256: Some(sha256),
    };
    let downloader = Downloader::new(settings)?;
    let cancel = CancellationToken::new();
    downloader
        .fetch(&file, &args.target, &|_| {}, &cancel)
        .await?;
    let pid = std::process::id();
    println!("{} {}", process::memory(pid)?.1, process::cpu_seconds(pid)?);
    Ok(())
}
