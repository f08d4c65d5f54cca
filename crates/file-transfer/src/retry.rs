//! When a request is sent again. Pure: times and random numbers are passed in.

use std::time::{Duration, SystemTime};

/// Attempts after a failure, without a byte in between.
pub(crate) const ATTEMPTS: u32 = 6;
/// Longest time that a server can ask to wait.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
/// Longest `Retry-After` in bytes.
const MAX_HEADER: usize = 64;

/// Failures of one connection's requests.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// Failures since this connection received bytes last.
    own: u32,
    /// Failures since any connection of the transfer received bytes last.
    fruitless: u32,
    arrived: u64,
}

impl Attempts {
    /// Counts a failure and returns the number of failures in a row; `None` if it was the last
    /// permitted one. `received` says whether this request received bytes, `arrived` how many
    /// all connections of the transfer have received.
    pub(crate) fn failed(&mut self, received: bool, arrived: u64) -> Option<u32> {
        self.own = if received { 1 } else { self.own + 1 };
        self.fruitless = if arrived > self.arrived {
            1
        } else {
            self.fruitless + 1
        };
        self.arrived = arrived;
        (self.fruitless <= ATTEMPTS).then_some(self.own)
    }
}

/// Time before the next attempt after `failures` in a row: `first`, doubled with every failure up
/// to 32 times, times 0.5 to 1.5. `random` is in `0.0..1.0`. A server that asks for more time
/// gets it, within limits.
pub(crate) fn delay(
    failures: u32,
    first: Duration,
    random: f64,
    retry_after: Option<Duration>,
) -> Duration {
    let doubled = first * 2_u32.pow(failures.saturating_sub(1).min(5));
    let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
    doubled.mul_f64(0.5 + random).max(asked)
}

/// Parses `Retry-After`: seconds, or a date, of which the time that is left counts.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if value.len() > MAX_HEADER {
        return None;
    }
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    let at = SystemTime::from(date.timestamp());
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_limit_and_vary() {
        let first = Duration::from_millis(100);
        let middle: Vec<u128> = (1..=7)
            .map(|n| delay(n, first, 0.5, None).as_millis())
            .collect();
        assert_eq!(middle, [100, 200, 400, 800, 1600, 3200, 3200]);
        assert_eq!(delay(1, first, 0.0, None), Duration::from_millis(50));
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(delay(1, first, 0.5, asked(7)), Duration::from_secs(7));
        assert_eq!(delay(1, first, 0.5, asked(9999)), MAX_RETRY_AFTER);
        assert_eq!(delay(6, first, 0.5, asked(1)), Duration::from_millis(3200));
    }

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_470);
        assert_eq!(retry_after(" 120 ", now), Some(Duration::from_secs(120)));
        assert_eq!(
            retry_after("Wed, 21 Oct 2015 07:28:00 GMT", now),
            Some(Duration::from_secs(10))
        );
        assert_eq!(
            retry_after("Tue, 21 Oct 2014 07:28:00 GMT", now),
            Some(Duration::ZERO)
        );
        for invalid in ["", "-1", "soon", "1.5", &"9".repeat(99)] {
            assert_eq!(retry_after(invalid, now), None, "{invalid}");
        }
    }

    #[test]
    fn attempts_start_again_when_bytes_arrive() {
        let mut attempts = Attempts::default();
        for n in 1..=ATTEMPTS {
            assert_eq!(attempts.failed(false, 0), Some(n));
        }
        let mut others_progress = Attempts::default();
        for n in 1..20 {
            assert_eq!(others_progress.failed(false, u64::from(n)), Some(n));
        }
        assert_eq!(others_progress.failed(true, 20), Some(1));
        assert_eq!(attempts.failed(false, 0), None);
    }
}
