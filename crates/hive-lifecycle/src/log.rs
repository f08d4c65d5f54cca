use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use diagnostics::{Diagnostic, FatalLine, escape};

/// A log beyond this size is set aside when the hive starts.
const LARGEST: u64 = 8 << 20;
/// Most of the log that is looked at for its last lines.
const TAIL: u64 = 8 << 10;

/// Opens the log for appending and tells its length; a large one is set aside first.
pub(crate) fn open(path: &Path) -> io::Result<(File, u64)> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > LARGEST) {
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

/// Why the program gave up, if that is the last line that was written after `from`.
pub(crate) fn fatal(path: &Path, from: u64) -> Option<Diagnostic> {
    let line: FatalLine = serde_json::from_str(tail(path, from).lines().last()?).ok()?;
    Some(line.fatal)
}

fn tail(path: &Path, from: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(TAIL))))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// The last `lines` lines that were written after `from`, harmless to show.
pub(crate) fn last_lines(path: &Path, from: u64, lines: usize) -> Vec<String> {
    let text = tail(path, from);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..]
        .iter()
        .map(|line| escape(line))
        .collect()
}
