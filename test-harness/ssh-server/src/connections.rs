use std::{
    fs::OpenOptions,
    net::{TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use rustix::process::{Pid, Signal};

/// What happens to new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are served.
    Serve,
    /// They are closed.
    Refuse,
    /// They are accepted and get no response.
    Ignore,
    /// The server ends.
    Stop,
}

/// The connections of a server.
#[derive(Debug)]
pub(crate) struct Connections {
    sshd: PathBuf,
    config: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    /// One process for each connection, which leads a process group.
    processes: Vec<Child>,
    ignored: Vec<TcpStream>,
}

impl Connections {
    pub(crate) fn new(sshd: PathBuf, config: PathBuf) -> Self {
        Self {
            sshd,
            config,
            state: Mutex::new(State {
                mode: Mode::Serve,
                processes: Vec::new(),
                ignored: Vec::new(),
            }),
        }
    }

    /// Accepts connections until the mode is [`Mode::Stop`].
    pub(crate) fn accept_from(&self, listener: &TcpListener) {
        for stream in listener.incoming() {
            let mut state = self.state();
            state.reap();
            match (state.mode, stream) {
                (Mode::Stop, _) => return,
                (Mode::Serve, Ok(stream)) => {
                    if let Ok(process) = self.serve(stream) {
                        state.processes.push(process);
                    }
                }
                (Mode::Ignore, Ok(stream)) => state.ignored.push(stream),
                (Mode::Refuse, _) | (_, Err(_)) => {}
            }
        }
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        let mut state = self.state();
        state.mode = mode;
        state.ignored.clear();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let mut state = self.state();
        state.reap();
        for process in &mut state.processes {
            if let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
                // It may have exited in the meantime; it is not reaped, so the pid is its own.
                let _ = rustix::process::kill_process_group(pid, signal);
            }
            if signal == Signal::KILL {
                let _ = process.wait();
            }
        }
        state.reap();
    }

    /// The process of each connection, which leads a process group.
    pub(crate) fn pids(&self) -> Vec<Pid> {
        let mut state = self.state();
        state.reap();
        let pids = state.processes.iter().map(Child::id);
        pids.filter_map(|pid| Pid::from_raw(pid.try_into().ok()?))
            .collect()
    }

    pub(crate) fn count(&self) -> usize {
        let mut state = self.state();
        state.reap();
        state.processes.len()
    }

    fn serve(&self, stream: TcpStream) -> Result<Child> {
        let log = self.config.with_file_name("sshd.log");
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let output = stream.try_clone()?;
        Ok(Command::new(&self.sshd)
            .args(["-i", "-e", "-f"])
            .arg(&self.config)
            .stdin(Stdio::from(OwnedFd::from(stream)))
            .stdout(Stdio::from(OwnedFd::from(output)))
            .stderr(log)
            .process_group(0)
            .spawn()?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn reap(&mut self) {
        self.processes
            .retain_mut(|process| matches!(process.try_wait(), Ok(None)));
    }
}
