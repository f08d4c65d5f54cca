use std::{
    fs::File,
    io::Read as _,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use node_link::Endpoint;
use ssh_server::ALIAS;

use super::{Setting, client, url};

/// What the server sends again and again.
pub(super) const PIECE: &[u8] = &[0; 64 << 10];

/// Measures a download over the link and `ssh HOST cat FILE`, in turns.
pub(super) async fn run(setting: &Setting, megabytes: u64, count: u32) -> Result<()> {
    let size = megabytes * 1_000_000;
    let file = setting.server.home().join("zeros");
    File::create(&file)?.set_len(size)?;
    let (mut direct, mut ssh, mut link) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=count {
        let measured = (
            download(&setting.direct, size).await?,
            by_ssh(setting, size).await?,
            download(&setting.over_link, size).await?,
        );
        // The first round warms up.
        if round > 0 {
            direct.push(measured.0);
            ssh.push(measured.1);
            link.push(measured.2);
        }
    }
    println!("| transfer of {megabytes} MB | MB/s | of ssh |");
    println!("|---|---|---|");
    let ssh = median(ssh)?;
    for (name, rate) in [
        ("direct, without encryption", median(direct)?),
        ("`ssh HOST cat FILE`", ssh),
        ("over the link", median(link)?),
    ] {
        println!("| {name} | {rate:.0} | {:.2} |", rate / ssh);
    }
    Ok(())
}

/// Megabytes per second of a download.
async fn download(endpoint: &Endpoint, size: u64) -> Result<f64> {
    let begun = Instant::now();
    let path = format!("/zeros/{size}");
    let mut response = client(endpoint).get(url(endpoint, &path)).send().await?;
    let mut received = 0;
    while let Some(chunk) = response.chunk().await? {
        received += chunk.len() as u64;
    }
    ensure!(received == size, "{received} of {size} bytes");
    Ok(rate(size, begun))
}

/// Megabytes per second of a connection of its own, which is established before.
async fn by_ssh(setting: &Setting, size: u64) -> Result<f64> {
    let mut command = Command::new("ssh");
    command.arg("-F").arg(setting.server.config());
    // The first line says that the connection is established.
    command.args([ALIAS, "echo; exec cat zeros"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let read = move || -> Result<f64> {
        let mut child = command.spawn()?;
        let mut output = child.stdout.take().context("no output")?;
        let mut first = [0];
        output.read_exact(&mut first)?;
        let begun = Instant::now();
        let (mut received, mut chunk) = (0, vec![0; PIECE.len()]);
        while let count @ 1.. = output.read(&mut chunk)? {
            received += count as u64;
        }
        let took = rate(size, begun);
        ensure!(child.wait()?.success(), "ssh failed");
        ensure!(received == size, "{received} of {size} bytes");
        Ok(took)
    };
    tokio::task::spawn_blocking(read).await?
}

fn rate(size: u64, begun: Instant) -> f64 {
    size as f64 / 1e6 / begun.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> Result<f64> {
    rates.sort_by(f64::total_cmp);
    let middle = rates.len() / 2;
    rates.get(middle).copied().context("no round")
}
