//! The guard of an engine: a process between adapter and engine that ends everything the engine
//! has started, whatever happens to the adapter.
//!
//! The guard leads a process group of its own, and orphans of the engine become its children
//! (`PR_SET_CHILD_SUBREAPER` in prctl(2)). It ends when the engine does, and when the adapter closes
//! the guard's standard input, which the kernel does for an adapter that is killed. If the guard
//! itself is killed, so is the engine (`PR_SET_PDEATHSIG`).

use std::{
    fs, io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Command, ExitCode, ExitStatus, Stdio},
    thread,
};

use diagnostics::Diagnostic;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open, pidfd_send_signal,
    set_child_subreaper, set_parent_process_death_signal, wait,
};

use crate::errors;

/// First argument of the process that becomes the guard of an engine; the command follows.
pub const GUARD_ENGINE: &str = "guard-engine";
/// First argument of the process that becomes the engine; the command follows.
pub const EXEC_ENGINE: &str = "exec-engine";
/// Exit code if the engine could not be started.
const NOT_STARTED: u8 = 127;

/// Runs `command` and ends with its exit code, or by the signal that killed it.
pub fn guard_engine(command: &[String]) -> ExitCode {
    let status = match run(command) {
        Ok(status) => status,
        Err(error) => {
            let program = command.first().map(String::as_str).unwrap_or_default();
            eprint_line(&errors::not_started(program, error));
            return ExitCode::from(NOT_STARTED);
        }
    };
    if let Some(signal) = status.signal().and_then(Signal::from_named_raw) {
        // The adapter sees how the engine ended. Signals that do not kill fall through.
        let _ = kill_process(getpid(), signal);
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(1))
}

/// Replaces this process by `command`, which dies with its parent. Returns only if that fails.
pub fn exec_engine(command: &[String]) -> Diagnostic {
    let Some((program, arguments)) = command.split_first() else {
        return errors::no_command();
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return errors::not_started(program, error);
    }
    errors::not_started(program, Command::new(program).args(arguments).exec())
}

fn run(command: &[String]) -> io::Result<ExitStatus> {
    set_child_subreaper(Some(getpid()))?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg(EXEC_ENGINE)
        .args(command)
        .stdin(Stdio::null())
        .spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
    // A descriptor of the process is safe where its id might belong to another one by then.
    let engine = pidfd_open(pid, PidfdFlags::empty())?;
    thread::Builder::new()
        .name("adapter".into())
        .spawn(move || {
            // The adapter writes nothing: this returns when it is gone or ends the engine.
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            let _ = pidfd_send_signal(&engine, Signal::KILL);
        })?;
    let status = child.wait()?;
    end_children();
    Ok(status)
}

/// Kills all children until none is left. The children of a killed one become children of this
/// process, so that none of them escapes, whatever group or session it is in.
fn end_children() {
    loop {
        let own = getpid();
        for pid in children_of(own) {
            let _ = kill_process(pid, Signal::KILL);
        }
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Reads the children of a process from `/proc/<pid>/stat` (proc(5)).
fn children_of(parent: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name of the process may contain any character.
            let parent_field = text.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?;
            let parent_pid: i32 = parent_field.parse().ok()?;
            (parent_pid == parent.as_raw_nonzero().get()).then(|| Pid::from_raw(pid))?
        })
        .collect()
}

/// Writes an error for the log of the adapter.
fn eprint_line(error: &Diagnostic) {
    use io::Write as _;
    let _ = writeln!(io::stderr(), "{error}");
}
