use std::time::Duration;

/// The time at which a request is abandoned, as a duration since the start of the queen.
///
/// The queen parses deadlines once, where a request arrives, and uses this type everywhere
/// inside. Only workers receive the wall-clock form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(Duration);

impl Deadline {
    pub fn at(since_start: Duration) -> Self {
        Self(since_start)
    }

    pub fn since_start(self) -> Duration {
        self.0
    }

    pub fn has_passed(self, now: Duration) -> bool {
        self.0 <= now
    }
}
