use std::{fmt, os::unix::process::ExitStatusExt as _, process::ExitStatus};

use daemon_shell::oom_kills;

/// Exit of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
    /// SIGKILL, while the kernel counted an OOM kill.
    OutOfMemory,
    /// The exit status could not be read.
    Unknown,
}

impl Exit {
    /// Reads the status of a child. `oom_kills_before` is [`oom_kills`] from before its start:
    /// a SIGKILL counts as an OOM kill only if the count has risen.
    pub fn of(status: ExitStatus, oom_kills_before: Option<u64>) -> Self {
        const SIGKILL: i32 = 9;
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(SIGKILL)) if has_risen(oom_kills_before, oom_kills()) => Self::OutOfMemory,
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
            Self::OutOfMemory => f.write_str("OOM-killed"),
            Self::Unknown => f.write_str("unknown exit status"),
        }
    }
}

fn has_risen(before: Option<u64>, after: Option<u64>) -> bool {
    matches!((before, after), (Some(before), Some(after)) if after > before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(raw: i32) -> ExitStatus {
        ExitStatus::from_raw(raw)
    }

    #[test]
    fn a_sigkill_is_an_oom_kill_only_if_the_kernel_counted_one() {
        assert_eq!(Exit::of(status(98 << 8), None), Exit::Code(98));
        assert_eq!(Exit::of(status(15), Some(0)), Exit::Signal(15));
        assert_eq!(Exit::of(status(9), None), Exit::Signal(9));
        assert!(has_risen(Some(1), Some(2)));
        assert!(!has_risen(Some(2), Some(2)));
        assert!(!has_risen(None, Some(2)));
    }
}
