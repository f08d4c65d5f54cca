use std::fs;

use anyhow::{Context as _, Result};

/// Returns the CPU time of all threads of a process so far, exited threads included, in seconds
/// with a resolution of 0.01. Available until the process is waited for.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in parentheses, which may contain spaces.
    let (_, fields) = stat
        .rsplit_once(") ")
        .context("no process name in /proc/*/stat")?;
    let mut times = fields.split_whitespace().skip(11);
    let mut time = || -> Result<u64> {
        Ok(times
            .next()
            .context("no CPU times in /proc/*/stat")?
            .parse()?)
    };
    let ticks = time()? + time()?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Returns the resident memory of a process and its peak, in bytes.
pub fn memory(pid: u32) -> Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let of = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        Ok(number
            .context("no memory in /proc/*/status")?
            .parse::<u64>()?
            * 1024)
    };
    Ok((of("VmRSS:")?, of("VmHWM:")?))
}
