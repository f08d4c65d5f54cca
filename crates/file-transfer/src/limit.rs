use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Time in which unused bandwidth accumulates.
const BURST: Duration = Duration::from_millis(100);

/// Limits the rate of all connections that share it.
#[derive(Debug)]
pub(crate) struct Limiter {
    started: Instant,
    bucket: Option<Mutex<Bucket>>,
}

impl Limiter {
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            started: Instant::now(),
            bucket: bytes_per_second.map(|rate| Mutex::new(Bucket::new(rate))),
        }
    }

    /// Waits until `bytes` that were received fit into the rate.
    pub(crate) async fn take(&self, bytes: usize) {
        let Some(bucket) = &self.bucket else { return };
        let wait = {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(bytes as u64, self.started.elapsed())
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// A token bucket that may go into debt: those who take more than there is wait. Pure.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    /// Bytes that may be taken at `at`; negative if more were taken.
    balance: f64,
    at: Duration,
}

impl Bucket {
    fn new(bytes_per_second: u64) -> Self {
        Self {
            rate: bytes_per_second.max(1) as f64,
            balance: 0.0,
            at: Duration::ZERO,
        }
    }

    /// Takes `bytes` at the time `now` and returns how long to wait for them.
    fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let most = self.rate * BURST.as_secs_f64();
        self.balance = (self.balance + passed * self.rate).min(most) - bytes as f64;
        Duration::from_secs_f64((-self.balance / self.rate).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takers_together_get_the_rate() {
        let second = Duration::from_secs(1);
        let mut bucket = Bucket::new(1000);
        assert_eq!(bucket.take(500, Duration::ZERO), second / 2);
        assert_eq!(bucket.take(500, Duration::ZERO), second);
        assert_eq!(bucket.take(0, second), Duration::ZERO);
        // Unused bandwidth of the last 100 ms only.
        assert_eq!(bucket.take(100, second * 9), Duration::ZERO);
        assert_eq!(bucket.take(1000, second * 9), second);
    }
}
