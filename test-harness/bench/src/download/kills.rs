use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::Setting;

/// Mean time until a process is killed, its start included.
const MEAN: Duration = Duration::from_millis(400);
/// Bytes that may be served, for each byte of the file.
const MOST_SERVED: f64 = 1.05;

/// Kills the process that fetches at random moments, until the last one completes.
pub(super) async fn run(setting: &Setting, kills: u32) -> Result<()> {
    // The moments are spread over the whole transfer.
    let rate = setting.size as f64 / (MEAN.as_secs_f64() * f64::from(kills));
    setting.server.limit_rate(rate as u64);
    let begun = Instant::now();
    let mut killed = 0;
    while killed < kills && !setting.target.exists() {
        let mut process = setting.transfer()?.stdout(Stdio::null()).spawn()?;
        tokio::time::sleep(MEAN.mul_f64(random(killed) * 2.0)).await;
        if process.try_wait()?.is_none() {
            process.kill()?;
            killed += 1;
        }
        process.wait()?;
    }
    setting.server.limit_rate(u64::MAX);
    let status = tokio::task::spawn_blocking({
        let mut command = setting.transfer()?;
        move || command.stdout(Stdio::null()).status()
    })
    .await??;
    ensure!(status.success(), "the last transfer failed");
    let size = fs::metadata(&setting.target).context("no file")?.len();
    ensure!(size == setting.size, "{size} of {} bytes", setting.size);
    let served = setting.server.served();
    let share = served as f64 / setting.size as f64;
    println!(
        "killed {killed} times in {:.0} s: complete and verified, {share:.4} bytes served for each byte of the file",
        begun.elapsed().as_secs_f64()
    );
    fs::remove_file(&setting.target)?;
    ensure!(share <= MOST_SERVED, "more than {MOST_SERVED}");
    Ok(())
}

/// A number in `0.0..1.0`, which differs from run to run.
fn random(number: u32) -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(number) as f64 / u64::MAX as f64
}
