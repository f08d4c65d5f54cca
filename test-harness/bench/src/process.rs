use std::fs;

use anyhow::{Context as _, Result};

/// Seconds of processor time that all threads of a process have used, those that ended
/// included, in steps of a hundredth. It can be read until the process is waited for.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses, which may hold spaces.
    let (_, fields) = stat.rsplit_once(") ").context("no name")?;
    let mut times = fields.split_whitespace().skip(11);
    let mut time = || -> Result<u64> { Ok(times.next().context("no time")?.parse()?) };
    let ticks = time()? + time()?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Bytes of a process that are in memory, and the most that were.
pub fn memory(pid: u32) -> Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let of = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        Ok(number.context("no memory")?.parse::<u64>()? * 1024)
    };
    Ok((of("VmRSS:")?, of("VmHWM:")?))
}
