//! When a GPU is left to other programs, such as games, and when it is used again.
//!
//! A GPU is left when processes that are no workers use much of its memory, and used again some
//! time after they have ended, so that a game that loads its next level does not find the memory
//! taken. [`DeviceYield::next`] is given what is measured, and says what changes.

use std::time::Duration;

use hive_contract::DeviceProcess;
use queen_contract::YieldPhase;

/// A process with less memory does not count: desktops, terminals and browsers have some.
pub const NOTABLE_BYTES: u64 = 512 << 20;
/// A GPU is left when notable processes use this much of its memory, or [`TOTAL_SHARE`] of it.
const LEAST_BYTES: u64 = 1 << 30;
/// See [`LEAST_BYTES`]: the larger one counts.
const TOTAL_SHARE: u64 = 16;
/// Processes must use that much for this time: some need memory for a moment only.
const CONFIRM: Duration = Duration::from_secs(2);
/// A GPU is used again when other processes used little of it for this time.
pub const RETURN_AFTER: Duration = Duration::from_secs(30);

/// When a GPU is to be left to other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum YieldMode {
    /// While they use much of its memory.
    Auto,
    Never,
    /// In any case.
    Now,
}

/// What is known of a GPU at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurement {
    pub mode: YieldMode,
    /// Memory that notable processes of others use, in bytes: see [`foreign_bytes`].
    pub foreign_bytes: u64,
    /// Memory of the GPU, in bytes.
    pub total_bytes: u64,
    /// Whether a worker process is on it.
    pub has_workers: bool,
}

/// What begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum YieldEffect {
    /// The GPU is left: its workers are stopped, and none is started on it.
    Leave,
    /// It is used again.
    TakeBack,
}

/// Whether a GPU is left to other programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceYield(State);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Nothing was measured yet.
    #[default]
    Unknown,
    /// It is used.
    Free {
        /// Other processes use much of it since this time.
        over_since: Option<Duration>,
    },
    Left {
        phase: YieldPhase,
        /// It is left because the user wants it so, not for what was measured.
        by_user: bool,
        /// Other processes use little of it since this time.
        under_since: Option<Duration>,
    },
}

/// The memory that the notable ones of these processes use, in bytes.
pub fn foreign_bytes(processes: &[DeviceProcess]) -> u64 {
    let notable = processes.iter().map(|process| process.memory_bytes);
    let notable = notable.filter(|bytes| *bytes >= NOTABLE_BYTES);
    notable.fold(0, u64::saturating_add)
}

/// The use of a GPU's memory by others from which on it is left, in bytes.
pub fn threshold_bytes(total_bytes: u64) -> u64 {
    (total_bytes / TOTAL_SHARE).max(LEAST_BYTES)
}

impl DeviceYield {
    /// How far the GPU is left; `None`: it is used.
    pub fn phase(self) -> Option<YieldPhase> {
        match self.0 {
            State::Unknown | State::Free { .. } => None,
            State::Left { phase, .. } => Some(phase),
        }
    }

    /// Applies what is known at `now`, the time since any moment.
    pub fn next(&mut self, known: Measurement, now: Duration) -> Option<YieldEffect> {
        let before = self.phase();
        self.0 = match known.mode {
            YieldMode::Never => State::Free { over_since: None },
            YieldMode::Now => State::Left {
                phase: left(known),
                by_user: true,
                under_since: None,
            },
            YieldMode::Auto => self.0.measured(known, now),
        };
        match (before, self.phase()) {
            (None, Some(_)) => Some(YieldEffect::Leave),
            (Some(_), None) => Some(YieldEffect::TakeBack),
            _ => None,
        }
    }
}

fn left(known: Measurement) -> YieldPhase {
    if known.has_workers {
        YieldPhase::Yielding
    } else {
        YieldPhase::Yielded
    }
}

impl State {
    fn measured(self, known: Measurement, now: Duration) -> Self {
        let threshold = threshold_bytes(known.total_bytes);
        let is_over = known.foreign_bytes >= threshold;
        let leaves = Self::Left {
            phase: left(known),
            by_user: false,
            under_since: None,
        };
        match self {
            // After a start of the queen, nothing may be started beside a game that runs already.
            Self::Unknown if is_over => leaves,
            Self::Free { over_since } if is_over => {
                let since = over_since.unwrap_or(now);
                if now.saturating_sub(since) >= CONFIRM {
                    leaves
                } else {
                    Self::Free {
                        over_since: Some(since),
                    }
                }
            }
            Self::Unknown | Self::Free { .. } => Self::Free { over_since: None },
            Self::Left { by_user: true, .. } if !is_over => Self::Free { over_since: None },
            // Less than half, so that a use about the threshold does not change it all the time.
            Self::Left { under_since, .. } if known.foreign_bytes < threshold / 2 => {
                let since = under_since.unwrap_or(now);
                if now.saturating_sub(since) >= RETURN_AFTER {
                    Self::Free { over_since: None }
                } else {
                    Self::Left {
                        phase: YieldPhase::Returning,
                        by_user: false,
                        under_since: Some(since),
                    }
                }
            }
            Self::Left { .. } => leaves,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn uses(gib: u64) -> Measurement {
        Measurement {
            mode: YieldMode::Auto,
            foreign_bytes: gib * GIB,
            total_bytes: 32 * GIB,
            has_workers: false,
        }
    }

    /// A GPU that was free at first.
    fn free() -> DeviceYield {
        let mut device = DeviceYield::default();
        assert_eq!(device.next(uses(0), at(0)), None);
        device
    }

    #[test]
    fn a_gpu_is_left_when_others_use_much_of_it_for_a_moment() {
        let mut device = free();
        assert_eq!(device.next(uses(2), at(10)), None);
        let almost = at(12).saturating_sub(Duration::from_millis(1));
        assert_eq!(device.next(uses(2), almost), None);
        let with_workers = Measurement {
            has_workers: true,
            ..uses(2)
        };
        assert_eq!(device.next(with_workers, at(12)), Some(YieldEffect::Leave));
        assert_eq!(device.phase(), Some(YieldPhase::Yielding));
        assert_eq!(device.next(uses(2), at(13)), None);
        assert_eq!(device.phase(), Some(YieldPhase::Yielded));
    }

    #[test]
    fn a_use_of_a_moment_or_below_the_threshold_changes_nothing() {
        let mut device = free();
        assert_eq!(device.next(uses(9), at(1)), None);
        assert_eq!(device.next(uses(1), at(2)), None);
        assert_eq!(device.next(uses(9), at(3)), None);
        assert_eq!(device.next(uses(9), at(4)), None);
        let below = Measurement {
            foreign_bytes: 2 * GIB - 1,
            ..uses(0)
        };
        assert_eq!(device.next(below, at(100)), None);
        assert_eq!(device.next(below, at(200)), None);
        assert_eq!(device.phase(), None);
    }

    #[test]
    fn a_gpu_that_is_used_by_others_at_the_start_is_left_at_once() {
        let mut device = DeviceYield::default();
        assert_eq!(device.next(uses(2), at(0)), Some(YieldEffect::Leave));
    }

    #[test]
    fn a_gpu_returns_some_time_after_the_others_have_ended() {
        let mut device = DeviceYield::default();
        device.next(uses(9), at(0));
        // A level of the game is being loaded.
        device.next(uses(0), at(10));
        assert_eq!(device.phase(), Some(YieldPhase::Returning));
        device.next(uses(9), at(39));
        assert_eq!(device.phase(), Some(YieldPhase::Yielded));
        device.next(uses(0), at(40));
        assert_eq!(device.next(uses(0), at(69)), None);
        assert_eq!(device.phase(), Some(YieldPhase::Returning));
        assert_eq!(device.next(uses(0), at(70)), Some(YieldEffect::TakeBack));
        assert_eq!(device.phase(), None);
        assert_eq!(device.next(uses(2), at(71)), None, "it was free before");
    }

    #[test]
    fn a_use_about_the_threshold_does_not_change_it_all_the_time() {
        let mut device = DeviceYield::default();
        device.next(uses(2), at(0));
        for second in 1..300 {
            assert_eq!(device.next(uses(1 + second % 2), at(second)), None);
            assert_eq!(device.phase(), Some(YieldPhase::Yielded));
        }
    }

    #[test]
    fn the_user_decides_at_once() {
        let mode = |mode, gib| Measurement { mode, ..uses(gib) };
        let mut device = free();
        let now = mode(YieldMode::Now, 0);
        assert_eq!(device.next(now, at(1)), Some(YieldEffect::Leave));
        assert_eq!(device.next(now, at(1000)), None);
        assert_eq!(device.next(uses(0), at(1001)), Some(YieldEffect::TakeBack));
        device.next(now, at(1002));
        assert_eq!(device.next(uses(9), at(1003)), None, "a game runs");
        assert_eq!(device.next(uses(0), at(1004)), None);
        assert_eq!(device.phase(), Some(YieldPhase::Returning));
        let never = mode(YieldMode::Never, 9);
        assert_eq!(device.next(never, at(1005)), Some(YieldEffect::TakeBack));
        assert_eq!(device.next(never, at(2000)), None);
        assert_eq!(device.phase(), None);
    }

    #[test]
    fn small_processes_do_not_count_and_large_gpus_have_room_for_more() {
        let process = |memory_bytes| DeviceProcess {
            pid: 1,
            name: String::new(),
            memory_bytes,
        };
        let desktop = [process(NOTABLE_BYTES - 1), process(NOTABLE_BYTES - 1)];
        assert_eq!(foreign_bytes(&desktop), 0);
        let game = [process(NOTABLE_BYTES), process(7), process(GIB)];
        assert_eq!(foreign_bytes(&game), NOTABLE_BYTES + GIB);
        assert_eq!(threshold_bytes(8 * GIB), GIB);
        assert_eq!(threshold_bytes(16 * GIB), GIB);
        assert_eq!(threshold_bytes(160 * GIB), 10 * GIB);
    }
}
