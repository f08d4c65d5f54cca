//! Runs one command in the sandbox, watches what it uses, and ends it with everything that it
//! has started.

use std::{
    io::Read,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError, SyncSender},
    thread,
    time::{Duration, Instant},
};

use diagnostics::Diagnostic;
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use crate::{
    Limits,
    errors::{self, Exceeded},
    log::{Log, Partial},
    usage,
};

/// How often cancellation and the number of all processes are looked at. A fork bomb multiplies
/// in milliseconds.
const TICK: Duration = Duration::from_millis(10);
/// How often their memory is measured.
const PROCESSES: Duration = Duration::from_millis(150);
/// How often the size of the folder is measured, unless that takes long.
const FOLDER: Duration = Duration::from_millis(400);
/// How long bubblewrap may take to notice that its child was killed.
const NOTICE: Duration = Duration::from_secs(1);
/// Bytes that are captured at most.
const CAPTURED: usize = 16 << 20;

/// How a command ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Exited(ExitStatus),
    Cancelled,
    Exceeded(Exceeded),
}

/// What watches a command.
pub(crate) struct Watch<'a> {
    pub(crate) limits: &'a Limits,
    /// Folder whose size is limited.
    pub(crate) folder: &'a Path,
    pub(crate) cancel: &'a CancellationToken,
}

/// Part of an output.
enum Part {
    Out(Vec<u8>),
    Err(Vec<u8>),
    End,
}

/// Runs a command that [`sandbox::command`](crate::sandbox::command) has made. Its standard
/// output is returned if `captures`, else it is logged, as its standard error is.
pub(crate) fn run(
    mut command: Command,
    captures: bool,
    watch: &Watch<'_>,
    log: &mut Log<'_>,
) -> Result<(Ended, Vec<u8>), Diagnostic> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|e| errors::no_sandbox(&format!("cannot start bubblewrap: {e}")))?;
    let (sender, parts) = mpsc::sync_channel(16);
    let readers = [
        child
            .stdout
            .take()
            .map(|pipe| reader(pipe, Part::Out, sender.clone())),
        child
            .stderr
            .take()
            .map(|pipe| reader(pipe, Part::Err, sender.clone())),
    ];
    let mut running = readers.iter().flatten().count();
    let (mut out, mut err, mut captured) = (Partial::default(), Partial::default(), Vec::new());
    let mut clock = Clock::start();
    let ended = loop {
        // The sender of this function keeps the channel open: it is also what waits.
        let part = parts.recv_timeout(if running == 0 { TICK / 5 } else { TICK });
        match part {
            Ok(Part::Out(bytes)) if captures => captured.extend(bytes),
            Ok(Part::Out(bytes)) => log.output(&mut out, &bytes),
            Ok(Part::Err(bytes)) => log.output(&mut err, &bytes),
            Ok(Part::End) => running -= 1,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        if running == 0
            && let Ok(Some(status)) = child.try_wait()
        {
            break Ended::Exited(status);
        }
        if log.written() > watch.limits.log || captured.len() > CAPTURED {
            break Ended::Exceeded(Exceeded::Log);
        }
        if let Some(ended) = clock.check(watch, child.id()) {
            break ended;
        }
    };
    if !matches!(ended, Ended::Exited(_)) {
        kill(&mut child);
        // What was printed before is in the pipes, which have ended.
        while running > 0 && log.written() <= watch.limits.log {
            match parts.recv_timeout(NOTICE) {
                Ok(Part::Out(bytes)) if !captures => log.output(&mut out, &bytes),
                Ok(Part::Err(bytes)) => log.output(&mut err, &bytes),
                Ok(Part::End) => running -= 1,
                Ok(Part::Out(_)) => {}
                Err(_) => break,
            }
        }
        drop(parts);
    }
    log.end(&mut out);
    log.end(&mut err);
    Ok((ended, captured))
}

/// When what was checked last.
struct Clock {
    started: Instant,
    tick: Instant,
    processes: Instant,
    folder: Instant,
    folder_interval: Duration,
    /// Threads of the whole machine at the start.
    threads: u64,
}

impl Clock {
    fn start() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            tick: now,
            processes: now,
            folder: now,
            folder_interval: FOLDER,
            threads: usage::threads_of_machine(),
        }
    }

    fn check(&mut self, watch: &Watch<'_>, pid: u32) -> Option<Ended> {
        if watch.cancel.is_cancelled() {
            return Some(Ended::Cancelled);
        }
        if self.tick.elapsed() < TICK {
            return None;
        }
        self.tick = Instant::now();
        if self.started.elapsed() > watch.limits.step {
            return Some(Ended::Exceeded(Exceeded::Time));
        }
        let more = usage::threads_of_machine().saturating_sub(self.threads);
        let may_exceed = more > watch.limits.processes;
        if may_exceed || self.processes.elapsed() >= PROCESSES {
            let usage = usage::processes(pid);
            self.processes = Instant::now();
            if usage.threads > watch.limits.processes {
                return Some(Ended::Exceeded(Exceeded::Processes));
            }
            if usage.memory > watch.limits.memory {
                return Some(Ended::Exceeded(Exceeded::Memory));
            }
        }
        if self.folder.elapsed() >= self.folder_interval {
            let started = Instant::now();
            let exceeded = usage::folder(watch.folder, watch.limits);
            self.folder = Instant::now();
            // A large folder takes long to measure: at most a tenth of the time is spent on it.
            self.folder_interval = FOLDER.max(started.elapsed() * 10);
            return exceeded.map(Ended::Exceeded);
        }
        None
    }
}

fn reader(
    mut pipe: impl Read + Send + 'static,
    part: fn(Vec<u8>) -> Part,
    sender: SyncSender<Part>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(read @ 1..) = pipe.read(&mut buffer) {
            if sender.send(part(buffer[..read].to_vec())).is_err() {
                return;
            }
        }
        let _ = sender.send(Part::End);
    })
}

/// Kills bubblewrap and everything in its sandbox, and waits until all has gone.
fn kill(child: &mut Child) {
    let signal = |pid: u32, signal| {
        if let Some(pid) = Pid::from_raw(pid as i32) {
            // It may have exited.
            let _ = kill_process(pid, signal);
        }
    };
    // A stopped process starts no more children. Its child is the first process of the sandbox;
    // the kernel kills all others with that one, and ends it after them.
    signal(child.id(), Signal::STOP);
    let children = usage::children(child.id());
    for pid in &children {
        signal(*pid, Signal::KILL);
    }
    if children.is_empty() {
        let _ = child.kill();
    }
    signal(child.id(), Signal::CONT);
    let (_open, never) = mpsc::channel::<()>();
    let started = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if started.elapsed() > NOTICE {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        let _ = never.recv_timeout(Duration::from_millis(5));
    }
}
