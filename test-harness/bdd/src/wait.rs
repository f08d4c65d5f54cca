//! Waiting for what must happen within a limit.
//!
//! Tests share the processors with other tests. The time in which processes of this machine waited
//! for a processor does not count, so a limit says how long something may take, and not how busy
//! the machine is.

use std::{fmt::Display, fs, future::Future, pin::pin, time::Duration};

use tokio::time::{Instant, interval, timeout};

/// On a machine that is always busy, a limit takes at most so many times as long.
const MOST: u32 = 5;

/// A limit that begins now.
struct Limit {
    longest: Duration,
    begun: Instant,
    /// Whether the machine was busy is not known where the kernel does not count it.
    busy_before: Option<Duration>,
}

impl Limit {
    fn start(limit: Duration) -> Self {
        Self {
            longest: limit,
            begun: Instant::now(),
            busy_before: busy(),
        }
    }

    /// Time until it has passed, unless the machine is busy meanwhile. `None` if it has.
    fn remaining(&self) -> Option<Duration> {
        let elapsed = self.begun.elapsed();
        let busy = self
            .busy_before
            .and_then(|before| busy()?.checked_sub(before))
            .unwrap_or_default();
        let end = (self.longest + busy).min(self.longest * MOST);
        end.checked_sub(elapsed).filter(|left| !left.is_zero())
    }
}

/// Time in which a process waited for a processor, since the machine started (`some`, in
/// microseconds; Documentation/accounting/psi.rst of Linux).
fn busy() -> Option<Duration> {
    let pressure = fs::read_to_string("/proc/pressure/cpu").ok()?;
    let some = pressure.lines().find(|line| line.starts_with("some "))?;
    let total = some.rsplit_once("total=")?.1.parse().ok()?;
    Some(Duration::from_micros(total))
}

/// Waits for a condition: calls `check` 50 times a second until it returns `Ok`. Panics with
/// its last error after `limit`.
pub async fn eventually<T, E: Display, F: Future<Output = Result<T, E>>>(
    limit: Duration,
    mut check: impl FnMut() -> F,
) -> T {
    let end = Limit::start(limit);
    let mut tick = interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        match check().await {
            Ok(value) => return value,
            Err(e) if end.remaining().is_none() => panic!("not within {limit:?}: {e}"),
            Err(_) => {}
        }
    }
}

/// Awaits `future`. Panics with `what` after `limit`.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    try_within(limit, future)
        .await
        .unwrap_or_else(|| panic!("{what}: not within {limit:?}"))
}

/// Awaits `future`. `None` after `limit`.
pub(crate) async fn try_within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let end = Limit::start(limit);
    loop {
        if let Ok(result) = timeout(end.remaining()?, &mut future).await {
            return Some(result);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn what_does_not_end_is_not_awaited_longer_than_the_limit_allows() {
        let limit = Duration::from_millis(20);
        let begun = Instant::now();
        assert_eq!(try_within(limit, pending::<()>()).await, None);
        assert!(begun.elapsed() >= limit);
        assert_eq!(try_within(limit, ready(7)).await, Some(7));
    }

    #[test]
    fn time_in_which_the_machine_is_busy_does_not_count() {
        let second = Duration::from_secs(1);
        let begun = Instant::now().checked_sub(2 * second).unwrap();
        let limit = |limit, busy_before| Limit {
            longest: limit,
            begun,
            busy_before,
        };
        assert_eq!(limit(second, None).remaining(), None);
        assert!(limit(3 * second, None).remaining().unwrap() <= second);
        // Busy since the machine started, which is longer than both limits.
        let always = Some(Duration::ZERO);
        if busy().is_some_and(|busy| busy > 5 * second) {
            let left = limit(second, always).remaining().unwrap();
            assert!(left > 2 * second && left <= 3 * second, "{left:?}");
        }
    }
}
