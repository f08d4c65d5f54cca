//! The process of an engine.

use std::{
    collections::VecDeque,
    fs,
    io::{self, BufRead as _, BufReader, Read},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use diagnostics::{Diagnostic, excerpt};
use tokio::sync::watch;

use crate::{errors, guard::GUARD_ENGINE};

/// Number of last lines that explain an exit.
const TAIL_LINES: usize = 5;
/// Longest line that is logged, in bytes. The rest is logged as further lines.
const LINE_BYTES: u64 = 4096;
/// Time for the guard to end the engine.
const END_LIMIT: Duration = Duration::from_secs(5);

/// A running engine with its [guard](crate::guard). It is ended when this is dropped, and when the
/// adapter dies.
#[derive(Debug)]
pub(crate) struct EngineProcess {
    /// Standard input of the guard. Closing it ends the engine.
    lifeline: Mutex<Option<ChildStdin>>,
    /// Of the guard.
    pid: u32,
    output: Arc<Output>,
    /// How the process exited.
    exit: watch::Receiver<Option<String>>,
    /// Disconnected when nothing of the engine is left.
    alive: Mutex<mpsc::Receiver<()>>,
}

#[derive(Debug, Default)]
struct Output {
    tail: Mutex<VecDeque<String>>,
    bytes: AtomicU64,
}

impl EngineProcess {
    /// Starts `command`; `launcher` is the program whose first argument [`GUARD_ENGINE`] makes it
    /// call [`crate::guard_engine`].
    pub fn start(launcher: &str, command: &[String]) -> Result<Self, Diagnostic> {
        let mut child = Command::new(launcher)
            .arg(GUARD_ENGINE)
            .args(command)
            // The engine may be anybody's program.
            .env_remove("RBEE_QUEEN_TOKEN_FILE")
            .env_remove("RBEE_WORKER_TOKEN_FILE")
            .env_remove("RBEE_ENGINE_API_KEY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| errors::not_started(launcher, error))?;
        let pid = child.id();
        let output = Arc::new(Output::default());
        let lifeline = Mutex::new(child.stdin.take());
        let (exit_sender, exit) = watch::channel(None);
        let (alive_sender, alive) = mpsc::channel();
        let thread_output = output.clone();
        thread::Builder::new()
            .name("engine-process".into())
            .spawn(move || {
                let stdout = child.stdout.take();
                let stderr = child.stderr.take();
                let readers = [
                    stdout.map(|source| read_lines(source, &thread_output)),
                    stderr.map(|source| read_lines(source, &thread_output)),
                ];
                let how = wait(&mut child);
                for reader in readers.into_iter().flatten().flatten() {
                    // A reader that panicked has nothing more to add.
                    let _ = reader.join();
                }
                let _ = exit_sender.send(Some(how));
                drop(alive_sender);
            })
            .map_err(errors::no_thread)?;
        Ok(Self {
            lifeline,
            pid,
            output,
            exit,
            alive: Mutex::new(alive),
        })
    }

    /// Waits until the process has exited. Returns the error that says how.
    pub async fn exited(&self) -> Diagnostic {
        let mut exit = self.exit.clone();
        let how = match exit.wait_for(Option::is_some).await {
            Ok(how) => how.clone().unwrap_or_default(),
            Err(_) => "for an unknown reason".to_owned(),
        };
        errors::exited(&how, &self.tail())
    }

    /// Returns the last lines of the output, escaped.
    pub fn tail(&self) -> String {
        let lines: Vec<String> = lock(&self.output.tail).iter().cloned().collect();
        lines.join(" | ")
    }

    /// Returns the size of the output so far, which shows progress.
    pub fn output_bytes(&self) -> u64 {
        self.output.bytes.load(SeqCst)
    }

    /// Returns the resident memory of the engine and of all that it has started, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        match *self.exit.borrow() {
            Some(_) => 0,
            None => memory_of(self.pid),
        }
    }

    /// Ends the engine and all that it has started.
    pub fn end(&self) {
        lock(&self.lifeline).take();
    }

    /// Ends the engine, and blocks until nothing of it is left.
    pub fn end_now(&self) {
        self.end();
        let _ = lock(&self.alive).recv_timeout(END_LIMIT);
    }
}

/// Waits for the guard, which exits as the engine does.
fn wait(child: &mut Child) -> String {
    match child.wait() {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "for an unknown reason".to_owned(),
        },
        Err(error) => error.to_string(),
    }
}

/// Writes the lines of the engine to the log.
fn read_lines(
    source: impl Read + Send + 'static,
    output: &Arc<Output>,
) -> io::Result<thread::JoinHandle<()>> {
    let output = output.clone();
    let read = move || {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut source).take(LINE_BYTES).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(read) => output.bytes.fetch_add(read as u64, SeqCst),
            };
            let text = String::from_utf8_lossy(line.trim_ascii_end());
            if text.is_empty() {
                continue;
            }
            let text = excerpt(&text, 1000);
            tracing::info!(target: "engine", "{text}");
            let mut tail = lock(&output.tail);
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(excerpt(&text, 200));
        }
    };
    thread::Builder::new()
        .name("engine-output".into())
        .spawn(read)
}

/// Returns the resident memory of a process and its descendants, in bytes (proc(5)).
fn memory_of(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let children = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let of_children: u64 = children
        .flat_map(|pids| {
            let pids = pids.split_ascii_whitespace();
            pids.filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .map(memory_of)
        .sum();
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm.split_ascii_whitespace().nth(1);
    let pages: u64 = pages.and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64 + of_children
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_process_includes_that_of_its_descendants() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 1000 & echo; wait"])
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The grandchild is there when the line is.
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut String::new()).unwrap();
        let own = |pid: u32| {
            let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
            let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
            pages * rustix::param::page_size() as u64
        };
        let (all, shell) = (memory_of(child.id()), own(child.id()));
        let group = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(shell > 0 && all > shell, "{all} and {shell}");
        assert_eq!(memory_of(child.id()), 0);
    }
}
