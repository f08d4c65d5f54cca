use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use request_queue::Deadline;
use tokio::time::Instant;

/// The queen's monotonic clock: time since its start.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Returns the time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Returns the wall-clock time of a moment, which must not be in the future.
    pub fn wall_time(&self, moment: Duration) -> Timestamp {
        let ago = self.now().saturating_sub(moment);
        let ago = SignedDuration::try_from(ago).unwrap_or_default();
        Timestamp::now()
            .saturating_sub(ago)
            .unwrap_or(Timestamp::MIN)
    }

    /// Returns the deadline at a wall-clock time; a time in the past is a deadline now.
    pub fn deadline_at(&self, at: Timestamp) -> Deadline {
        let remaining = at.duration_since(Timestamp::now());
        self.deadline_in(Duration::try_from(remaining).unwrap_or_default())
    }

    /// Returns the deadline after `remaining`.
    pub fn deadline_in(&self, remaining: Duration) -> Deadline {
        Deadline::at(self.now().saturating_add(remaining))
    }

    /// Returns the instant of a deadline, to sleep until it.
    pub fn instant(&self, deadline: Deadline) -> Instant {
        // Far enough in the future for any request; a later instant may not be representable.
        const LATEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        self.start + deadline.since_start().min(LATEST)
    }
}
