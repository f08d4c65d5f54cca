use std::{fs, os::fd::OwnedFd};

use diagnostics::Diagnostic;
use rustix::{
    io::Errno,
    process::{self, Pid, PidfdFlags},
};
use serde::{Deserialize, Serialize};

use crate::errors;

/// A signal that rbee sends to processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Requests termination.
    Term,
    /// Terminates immediately.
    Kill,
    /// Sent by Ctrl+C.
    Int,
}

impl From<Signal> for process::Signal {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Term => Self::TERM,
            Signal::Kill => Self::KILL,
            Signal::Int => Self::INT,
        }
    }
}

/// Identifies a process by pid and start time, so that a later process with the same pid does
/// not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot (field 22 of `/proc/<pid>/stat`, proc(5)).
    pub start_time: u64,
}

/// The start time of a process. `None` if it is gone.
fn start_time(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may contain any character, so the fields
    // are counted from the last parenthesis.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let threads: u32 = fields.nth(16)?.parse().ok()?;
    let start_time = fields.nth(1)?.parse().ok()?;
    // The first thread of a killed process is shown as a zombie while other threads, which exit
    // a moment later, still hold its files and their locks.
    let gone = state == "X" || (state == "Z" && threads <= 1);
    (!gone).then_some(start_time)
}

impl ProcessIdentity {
    /// The process that currently has this pid. `None` if there is none.
    pub fn of(pid: u32) -> Option<Self> {
        start_time(pid).map(|start_time| Self { pid, start_time })
    }

    /// This process.
    pub fn own() -> Self {
        let pid = std::process::id();
        Self::of(pid).unwrap_or(Self { pid, start_time: 0 })
    }

    /// Whether any of its threads is running. A zombie is not alive.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Sends a signal to the process. Returns `false` if it is gone.
    pub fn signal(&self, signal: Signal) -> Result<bool, Diagnostic> {
        let Some(fd) = self.pidfd()? else {
            return Ok(false);
        };
        match process::pidfd_send_signal(&fd, signal.into()) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(e) => Err(self.failed(e)),
        }
    }

    /// Sends a signal to the process group that it leads. Returns `false` if it is gone.
    pub fn signal_group(&self, signal: Signal) -> Result<bool, Diagnostic> {
        if !self.is_alive() {
            return Ok(false);
        }
        let Some(pid) = self.raw() else {
            return Ok(false);
        };
        match process::kill_process_group(pid, signal.into()) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(e) => Err(self.failed(e)),
        }
    }

    /// Resident memory in bytes. `None` if the process is gone.
    pub fn rss_bytes(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.pid)).ok()?;
        let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
        self.is_alive()
            .then(|| pages * rustix::param::page_size() as u64)
    }

    /// Waits until the process is gone. It need not be a child.
    #[expect(
        deprecated,
        reason = "the replacement is unsafe because some types can swap their descriptor; an OwnedFd cannot"
    )]
    pub async fn gone(&self) {
        let Ok(Some(fd)) = self.pidfd() else {
            return;
        };
        if let Ok(fd) = tokio::io::unix::AsyncFd::with_interest(fd, tokio::io::Interest::READABLE) {
            // A pidfd becomes readable when its process exits (pidfd_open(2)).
            let _ = fd.readable().await;
        }
    }

    /// The error for a process that is still alive after SIGKILL. `name` says which one it is:
    /// "worker w-0".
    pub fn survived_sigkill(&self, name: &str) -> Diagnostic {
        errors::survived_sigkill(name, self.pid)
    }

    /// A handle of exactly this process, so that the pid cannot be reused between check and use.
    fn pidfd(&self) -> Result<Option<OwnedFd>, Diagnostic> {
        let Some(pid) = self.raw() else {
            return Ok(None);
        };
        match process::pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(fd) => Ok(self.is_alive().then_some(fd)),
            Err(Errno::SRCH) => Ok(None),
            Err(e) => Err(self.failed(e)),
        }
    }

    fn raw(&self) -> Option<Pid> {
        i32::try_from(self.pid).ok().and_then(Pid::from_raw)
    }

    fn failed(&self, error: Errno) -> Diagnostic {
        errors::not_signalled(self.pid, &error)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_process_is_identified_by_pid_and_start_time() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let identity = ProcessIdentity::of(child.id()).unwrap();
        assert!(identity.is_alive());
        assert!(identity.rss_bytes().unwrap() > 0);
        let reused = ProcessIdentity {
            start_time: identity.start_time + 1,
            ..identity
        };
        assert!(!reused.is_alive());
        assert_eq!(reused.signal(Signal::Kill), Ok(false));
        assert!(identity.is_alive(), "the wrong identity killed nothing");
        assert_eq!(identity.signal(Signal::Kill), Ok(true));
        // A zombie until it is reaped below.
        identity.gone().await;
        assert!(!identity.is_alive());
        child.wait().unwrap();
        assert_eq!(identity.signal(Signal::Term), Ok(false));
    }

    #[tokio::test]
    async fn a_process_is_alive_until_its_last_thread_exits() {
        // The first thread exits; the other one reads until the pipe is closed.
        const EXIT_THREAD: &str = "import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
ctypes.CDLL(None).syscall(93 if 'aarch64' in sys.argv[1] else 60, 0)";
        let mut child = Command::new("python3")
            .args(["-c", EXIT_THREAD, std::env::consts::ARCH])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let identity = ProcessIdentity::of(child.id()).unwrap();
        let stat = format!("/proc/{}/stat", child.id());
        while !fs::read_to_string(&stat).unwrap().contains(") Z ") {
            tokio::task::yield_now().await;
        }
        assert!(identity.is_alive());
        assert_eq!(identity.gone().now_or_never(), None);
        drop(child.stdin.take());
        identity.gone().await;
        assert!(!identity.is_alive());
        child.wait().unwrap();
    }

    #[test]
    fn this_process_is_alive() {
        assert!(ProcessIdentity::own().is_alive());
    }
}
