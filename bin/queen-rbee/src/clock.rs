use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// The queen's monotonic time: how long it has been running.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.0.elapsed()
    }

    /// When the wall clock will show `at`; now, if it shows a later time already.
    pub fn when(at: Timestamp) -> Instant {
        let left = at.duration_since(Timestamp::now());
        Instant::now() + Duration::try_from(left).unwrap_or_default()
    }

    /// The instant in this clock's time.
    pub fn at(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.0)
    }
}
