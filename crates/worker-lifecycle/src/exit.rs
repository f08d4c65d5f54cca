use std::{fmt, os::unix::process::ExitStatusExt as _, process::ExitStatus};

use daemon_shell::oom_kills;
use hive_contract::OUT_OF_MEMORY;

/// Exit of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// SIGKILL, while the kernel counted an OOM kill.
    OutOfMemory,
    /// SIGABRT after an allocation failed.
    AllocationFailed,
    /// The exit status could not be read.
    Unknown,
}

impl Exit {
    /// Reads the status of a child. `oom_kills_before` is [`oom_kills`] from before its start:
    /// a SIGKILL counts as an OOM kill only if the count has risen.
    pub(crate) fn of(status: ExitStatus, oom_kills_before: Option<u64>) -> Self {
        const SIGKILL: i32 = 9;
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(SIGKILL)) if has_risen(oom_kills_before, oom_kills()) => Self::OutOfMemory,
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }

    /// Applies what the last lines of the log say about the exit.
    pub(crate) fn explained_by(self, log: &[String]) -> Self {
        const SIGABRT: i32 = 6;
        // What the runtimes of Rust and C++ write before they abort.
        let failed = |line: &String| {
            line.starts_with("memory allocation of ") || line.contains("std::bad_alloc")
        };
        match self {
            Self::Signal(SIGABRT) if log.iter().any(failed) => Self::AllocationFailed,
            exit => exit,
        }
    }

    pub(crate) fn is_out_of_memory(self) -> bool {
        matches!(self, Self::OutOfMemory | Self::AllocationFailed)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::OutOfMemory => write!(f, "{OUT_OF_MEMORY}: killed by the kernel"),
            Self::AllocationFailed => write!(f, "{OUT_OF_MEMORY}: an allocation failed"),
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
        let log = |line: &str| vec!["loading".to_owned(), line.to_owned()];
        let failed = log("memory allocation of 4096 bytes failed");
        assert_eq!(
            Exit::Signal(6).explained_by(&failed),
            Exit::AllocationFailed
        );
        assert_eq!(Exit::Signal(9).explained_by(&failed), Exit::Signal(9));
        assert_eq!(
            Exit::Signal(6).explained_by(&log("panicked")),
            Exit::Signal(6)
        );
        assert!(has_risen(Some(1), Some(2)));
        assert!(!has_risen(Some(2), Some(2)));
        assert!(!has_risen(None, Some(2)));
    }
}
