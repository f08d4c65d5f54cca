use std::time::{Duration, Instant};

use diagnostics::Diagnostic;
use jiff::Timestamp;

use crate::errors;

/// Longest time until a deadline. A later deadline is moved here, because an [`Instant`]
/// cannot represent every wall-clock time.
const MAX_REMAINING: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Time at which something expires, on the monotonic clock.
///
/// Requests carry a wall-clock time. It is converted once, on arrival, so that an adjustment
/// of the wall clock does not affect running requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn at(time: Instant) -> Self {
        Self(time)
    }

    /// Converts the deadline of a request.
    ///
    /// Errors: `DEADLINE_EXCEEDED` if it has passed.
    pub fn from_wall_clock(time: Timestamp) -> Result<Self, Diagnostic> {
        match Duration::try_from(time.duration_since(Timestamp::now())) {
            Ok(remaining) if !remaining.is_zero() => {
                Ok(Self(Instant::now() + remaining.min(MAX_REMAINING)))
            }
            _ => Err(errors::deadline_passed_on_arrival(time)),
        }
    }

    pub fn has_passed(self, now: Instant) -> bool {
        self.0 <= now
    }

    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn wall_clock_time_is_converted_unless_it_has_passed() {
        let from_now = |seconds| {
            Deadline::from_wall_clock(Timestamp::now() + SignedDuration::from_secs(seconds))
        };
        let deadline = from_now(60).unwrap();
        let now = Instant::now();
        assert!(!deadline.has_passed(now));
        assert!(deadline.has_passed(now + Duration::from_secs(60)));
        assert_eq!(from_now(-1).unwrap_err().code, Code::DeadlineExceeded);
        assert!(Deadline::from_wall_clock(Timestamp::MAX).is_ok());
    }
}
