use std::time::Duration;

/// The time at which a request is abandoned, as a duration since the start of the queen.
///
/// The queen converts deadlines to this type where a request arrives; only workers receive the
/// wall-clock time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(Duration);

impl Deadline {
    pub fn at(since_start: Duration) -> Self {
        Self(since_start)
    }

    pub fn since_start(self) -> Duration {
        self.0
    }

    pub(crate) fn has_passed(self, now: Duration) -> bool {
        self.0 <= now
    }
}
