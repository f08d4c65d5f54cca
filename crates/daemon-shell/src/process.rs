use std::{fs, os::fd::OwnedFd};

use diagnostics::{Code, Diagnostic};
use rustix::{
    io::Errno,
    process::{self, Pid, PidfdFlags},
};
use serde::{Deserialize, Serialize};

/// A signal that rbee sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Please end.
    Term,
    /// End now.
    Kill,
    /// As Ctrl+C.
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

/// A process that cannot be mistaken for another: its pid and its start time. A pid that
/// was given to a later program does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Process id.
    pub pid: u32,
    /// Clock ticks from boot to its start (field 22 of `/proc/<pid>/stat`, proc(5)).
    pub start_time: u64,
}

/// The start time of a process, unless it is gone.
fn start_time(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may itself hold any
    // character, so the fields are counted from the last parenthesis.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let threads: u32 = fields.nth(16)?.parse().ok()?;
    let start_time = fields.nth(1)?.parse().ok()?;
    // A process that is killed shows its first thread as a zombie while the others, which
    // end a moment later, still hold its files and their locks.
    let gone = state == "X" || (state == "Z" && threads <= 1);
    (!gone).then_some(start_time)
}

impl ProcessIdentity {
    /// The living process that has this pid now.
    pub fn of(pid: u32) -> Option<Self> {
        start_time(pid).map(|start_time| Self { pid, start_time })
    }

    /// This process.
    pub fn own() -> Self {
        let pid = std::process::id();
        Self::of(pid).unwrap_or(Self { pid, start_time: 0 })
    }

    /// Whether any thread of it still runs. None of a zombie does.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Sends a signal to the process; `false` when it is gone.
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

    /// Sends a signal to the process group that it leads; `false` when it is gone.
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

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.pid)).ok()?;
        let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
        self.is_alive()
            .then(|| pages * rustix::param::page_size() as u64)
    }

    /// Resolves when the process is gone (or was already). It need not be a child.
    #[expect(
        deprecated,
        reason = "the successor is unsafe for the sake of types that can swap their descriptor; an OwnedFd cannot"
    )]
    pub async fn gone(&self) {
        let Ok(Some(fd)) = self.pidfd() else {
            return;
        };
        if let Ok(fd) = tokio::io::unix::AsyncFd::with_interest(fd, tokio::io::Interest::READABLE) {
            // A pidfd becomes readable when its process ends (pidfd_open(2)).
            let _ = fd.readable().await;
        }
    }

    /// A handle of exactly this process, so that nothing can come between check and use.
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
        Diagnostic::new(
            Code::Internal,
            format!("cannot signal process {}: {error}", self.pid),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::process::{Command, Stdio};

    #[tokio::test]
    async fn a_process_is_known_by_pid_and_start() {
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
        // Not reaped yet: a zombie, and gone all the same.
        identity.gone().await;
        assert!(!identity.is_alive());
        child.wait().unwrap();
        assert_eq!(identity.signal(Signal::Term), Ok(false));
    }

    #[tokio::test]
    async fn a_process_is_there_until_its_last_thread_has_ended() {
        // Its first thread ends; the other reads until the pipe is closed.
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
