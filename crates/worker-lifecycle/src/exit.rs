use std::{fmt, os::unix::process::ExitStatusExt as _, process::ExitStatus};

use daemon_shell::oom_kills;
use serde::{Deserialize, Serialize};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// By signal 9, while the kernel counted a process killed for memory.
    OutOfMemory,
    /// In a way that the system did not tell.
    Unknown,
}

impl Exit {
    /// Reads the status of a child. `oom_kills_before` is [`oom_kills`] from before its
    /// start: only a SIGKILL that goes with a risen count is laid to memory.
    pub(crate) fn of(status: ExitStatus, oom_kills_before: Option<u64>) -> Self {
        const SIGKILL: i32 = 9;
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(SIGKILL)) if risen(oom_kills_before, oom_kills()) => Self::OutOfMemory,
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::OutOfMemory => f.write_str("killed by the kernel for want of memory"),
            Self::Unknown => f.write_str("an end that the system did not tell"),
        }
    }
}

fn risen(before: Option<u64>, after: Option<u64>) -> bool {
    matches!((before, after), (Some(before), Some(after)) if after > before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(raw: i32) -> ExitStatus {
        ExitStatus::from_raw(raw)
    }

    #[test]
    fn only_a_sigkill_with_kernel_evidence_is_laid_to_memory() {
        assert_eq!(Exit::of(status(98 << 8), None), Exit::Code(98));
        assert_eq!(Exit::of(status(15), Some(0)), Exit::Signal(15));
        assert_eq!(Exit::of(status(9), None), Exit::Signal(9));
        assert!(risen(Some(1), Some(2)));
        assert!(!risen(Some(2), Some(2)));
        assert!(!risen(None, Some(2)));
    }
}
