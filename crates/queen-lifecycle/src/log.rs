use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;

use crate::errors::log_unusable;

/// Number of previous logs that are kept, as `NAME.1` (the latest), `NAME.2` and so on.
const KEPT: u32 = 3;
/// Number of bytes at the end of a log that are read.
const TAIL_BYTES: u64 = 1024 * 1024;

/// Keeps the log of the last run as a previous log and opens an empty one.
pub(crate) fn rotate(path: &Path) -> Result<File, Diagnostic> {
    if fs::metadata(path).is_ok_and(|m| m.len() > 0) {
        for n in (1..KEPT).rev() {
            rename(&numbered(path, n), &numbered(path, n + 1))?;
        }
        rename(path, &numbered(path, 1))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| log_unusable(path, &e))
}

/// The last `lines` lines. A missing log counts as empty.
pub(crate) fn tail(path: &Path, lines: usize) -> Result<String, Diagnostic> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(last_lines(&String::from_utf8_lossy(&bytes), lines).to_owned()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(log_unusable(path, &e)),
    }
}

fn last_lines(text: &str, lines: usize) -> &str {
    let end = text.strip_suffix('\n').unwrap_or(text);
    match lines.checked_sub(1) {
        None => "",
        Some(skipped) => end
            .rmatch_indices('\n')
            .nth(skipped)
            .map_or(text, |(at, _)| &text[at + 1..]),
    }
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

fn rename(from: &Path, to: &Path) -> Result<(), Diagnostic> {
    match fs::rename(from, to) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(log_unusable(from, &e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn last_lines_keeps_the_final_newline() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last_lines("a\nb\nc", 2), "b\nc");
        assert_eq!(last_lines("a\nb\n", 5), "a\nb\n");
        assert_eq!(last_lines("a\n\n", 1), "\n");
        assert_eq!(last_lines("a\n", 0), "");
        assert_eq!(last_lines("", 3), "");
    }

    #[test]
    fn a_limited_number_of_previous_logs_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.log");
        for run in 0..6 {
            write!(rotate(&path).unwrap(), "run {run}").unwrap();
        }
        drop(rotate(&path).unwrap());
        drop(rotate(&path).unwrap());
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("q.log"), "", "an empty log is not kept");
        assert_eq!(read("q.log.1"), "run 5");
        assert_eq!(read("q.log.3"), "run 3");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[test]
    fn a_large_log_is_read_from_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.log");
        assert_eq!(tail(&path, 9).unwrap(), "");
        let mut text = "x".repeat(2 * TAIL_BYTES as usize);
        text.push_str("\nthe end\n");
        fs::write(&path, text).unwrap();
        assert_eq!(tail(&path, 1).unwrap(), "the end\n");
        assert!(tail(&path, 9).unwrap().len() as u64 <= TAIL_BYTES);
    }
}
