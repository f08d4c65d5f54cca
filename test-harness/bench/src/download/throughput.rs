use std::{
    fs,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use super::Setting;

/// Result of one transfer.
struct Round {
    megabytes_per_second: f64,
    /// Peak of the memory in bytes and CPU seconds, where the process tells.
    used: Option<(u64, f64)>,
}

/// Fetches the file by curl and by this crate in turns. The hash is included in the latter.
pub(super) async fn run(setting: &Setting, count: u32) -> Result<()> {
    println!("| program | MB/s | of curl | peak memory MB | CPU seconds |");
    println!("|---|---|---|---|---|");
    let (mut curl, mut own) = (Vec::new(), Vec::new());
    for round in 0..=count {
        let pair = (
            measure(setting, curl_command(setting)).await?,
            measure(setting, setting.transfer()?).await?,
        );
        // The first round warms up.
        if round > 0 {
            curl.push(pair.0);
            own.push(pair.1);
        }
    }
    let (curl, own) = (median(curl)?, median(own)?);
    println!("| curl | {:.0} | 1 | | |", curl.megabytes_per_second);
    let (memory, cpu) = own.used.context("no figures of the transfer")?;
    println!(
        "| file-transfer, hashing included | {:.0} | {:.2} | {:.0} | {cpu:.2} |",
        own.megabytes_per_second,
        own.megabytes_per_second / curl.megabytes_per_second,
        memory as f64 / 1e6,
    );
    Ok(())
}

fn curl_command(setting: &Setting) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--fail", "--location", &setting.url, "--output"]);
    command.arg(&setting.target);
    command
}

async fn measure(setting: &Setting, mut command: Command) -> Result<Round> {
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let begun = Instant::now();
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let took = begun.elapsed();
    ensure!(output.status.success(), "the transfer failed");
    let size = fs::metadata(&setting.target)?.len();
    ensure!(size == setting.size, "{size} of {} bytes", setting.size);
    fs::remove_file(&setting.target)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let used = text
        .trim()
        .split_once(' ')
        .and_then(|(memory, cpu)| Some((memory.parse().ok()?, cpu.parse().ok()?)));
    Ok(Round {
        megabytes_per_second: size as f64 / 1e6 / took.as_secs_f64(),
        used,
    })
}

fn median(mut rounds: Vec<Round>) -> Result<Round> {
    rounds.sort_by(|a, b| a.megabytes_per_second.total_cmp(&b.megabytes_per_second));
    let middle = rounds.len() / 2;
    rounds.into_iter().nth(middle).context("no round")
}
