use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
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
    let file = RemoteFile {
        url: args.url.clone(),
        bearer: None,
        size: None,
        sha256: Some(parse_hash(&args.sha256)?),
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

fn parse_hash(text: &str) -> Result<[u8; 32]> {
    if text.len() != 64 {
        bail!("`{text}` is not a SHA-256");
    }
    let mut hash = [0; 32];
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits)?;
        *byte = u8::from_str_radix(digits, 16).context("not a SHA-256")?;
    }
    Ok(hash)
}
