use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use diagnostics::{Diagnostic, FatalLine, escape};

/// A log above this size is rotated when the hive starts.
const ROTATE_BYTES: u64 = 8 << 20;
/// How much of the log is searched for its last lines.
const TAIL_BYTES: u64 = 8 << 10;

/// Opens the log for appending and returns its length; rotates a large one first.
pub(crate) fn open(path: &Path) -> io::Result<(File, u64)> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > ROTATE_BYTES) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// Returns the reason for which the hive exited, if the last line after `from` states it.
pub(crate) fn fatal(path: &Path, from: u64) -> Option<Diagnostic> {
    fatal_in(&tail(path, from))
}

/// Returns the reason for which the hive exited, if the last line of its log states it.
pub(crate) fn fatal_in(text: &str) -> Option<Diagnostic> {
    let line: FatalLine = serde_json::from_str(text.lines().last()?).ok()?;
    Some(line.fatal)
}

/// Returns the last `count` lines after `from`, escaped.
pub(crate) fn last_lines(path: &Path, from: u64, count: usize) -> Vec<String> {
    last_lines_in(&tail(path, from), count)
}

/// Returns the last `count` lines, escaped.
pub(crate) fn last_lines_in(text: &str, count: usize) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| escape(line))
        .collect()
}

fn tail(path: &Path, from: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}
