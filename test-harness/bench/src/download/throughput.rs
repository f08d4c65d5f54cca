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

/// Fetches the file by curl and by this crate in turns. The latter hashes the file, and waits until
/// it is on the disk, as curl followed by `sync` does.
pub(super) async fn run(setting: &Setting, count: u32) -> Result<()> {
    let (mut curl, mut synced, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=count {
        let measured = (
            measure(setting, curl_command(setting, false)).await?,
            measure(setting, curl_command(setting, true)).await?,
            measure(setting, setting.transfer()?).await?,
        );
        // The first round warms up.
        if round > 0 {
            curl.push(measured.0);
            synced.push(measured.1);
            own.push(measured.2);
        }
    }
    println!("| program | MB/s | of curl | of curl and sync | peak memory MB | CPU seconds |");
    println!("|---|---|---|---|---|---|");
    let (curl, synced, own) = (median(curl)?, median(synced)?, median(own)?);
    let row = |name: &str, round: &Round| {
        let rate = round.megabytes_per_second;
        let used = round.used.map_or(" | ".to_owned(), |(memory, cpu)| {
            format!("{:.0} | {cpu:.2}", memory as f64 / 1e6)
        });
        println!(
            "| {name} | {rate:.0} | {:.2} | {:.2} | {used} |",
            rate / curl.megabytes_per_second,
            rate / synced.megabytes_per_second,
        );
    };
    row("curl", &curl);
    row("curl and sync", &synced);
    row("file-transfer", &own);
    Ok(())
}

fn curl_command(setting: &Setting, sync: bool) -> Command {
    let curl = r#"curl --silent --fail --location "$1" --output "$2""#;
    let script = if sync {
        format!(r#"{curl} && sync --data "$2""#)
    } else {
        format!("exec {curl}")
    };
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", &setting.url]);
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
