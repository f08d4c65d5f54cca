use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use diagnostics::{Diagnostic, escape};
use state_files::WorkerDir;
use worker_contract::FatalLine;

/// Maximum size of the previous log; only its end is kept.
const PREVIOUS_LIMIT_BYTES: u64 = 16 * 1024 * 1024;
/// Maximum number of bytes at the end of a log that are searched for its last lines.
const TAIL_LIMIT_BYTES: u64 = 1024 * 1024;

/// Output of a worker: the log of the current process and the one of the previous process.
pub(crate) struct LogFile {
    dir: WorkerDir,
}

impl LogFile {
    pub fn new(dir: WorkerDir) -> Self {
        Self { dir }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.log()
    }

    /// Makes the current log the previous one. Keeps at most its last 16 MiB.
    pub fn rotate(&self) -> io::Result<()> {
        let (current, previous) = (self.path(), self.dir.previous_log());
        match fs::metadata(&current) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
            Ok(metadata) if metadata.len() <= PREVIOUS_LIMIT_BYTES => {
                return fs::rename(&current, &previous);
            }
            Ok(_) => {}
        }
        let mut end = open_near_end(&current, PREVIOUS_LIMIT_BYTES)?.0;
        io::copy(&mut end, &mut create(&previous)?)?;
        fs::remove_file(&current)
    }

    /// Creates an empty log that is open for appending.
    pub fn create(&self) -> io::Result<File> {
        create(&self.path())
    }

    /// The last lines, at most `lines` and 1 MiB, escaped. Empty if there is no log.
    pub fn tail(&self, lines: usize) -> io::Result<Vec<String>> {
        let (mut file, cut) = match open_near_end(&self.path(), TAIL_LIMIT_BYTES) {
            Ok(opened) => opened,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut bytes = Vec::new();
        file.by_ref()
            .take(TAIL_LIMIT_BYTES)
            .read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        // If something was left out, the first line is incomplete.
        let complete: Vec<&str> = text.lines().skip(usize::from(cut)).collect();
        let from = complete.len().saturating_sub(lines);
        Ok(complete[from..].iter().map(|line| escape(line)).collect())
    }

    /// The error that the worker exited with, if the last line is a [`FatalLine`].
    pub fn fatal(&self) -> Option<Diagnostic> {
        let last = self.tail(1).ok()?.pop()?;
        let FatalLine { fatal } = serde_json::from_str(&last).ok()?;
        Some(Diagnostic {
            message: escape(&fatal.message),
            hint: fatal.hint.as_deref().map(escape),
            ..fatal
        })
    }
}

fn create(path: &Path) -> io::Result<File> {
    // Removed first, because append and truncate cannot be combined.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// Opens a file at its last `limit` bytes. The flag is true if that leaves something out.
fn open_near_end(path: &Path, limit: u64) -> io::Result<(File, bool)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let cut = length > limit;
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    Ok((file, cut))
}

#[cfg(test)]
mod tests {
    use super::*;
    use diagnostics::Code;
    use state_files::WorkerDirs;
    use std::io::Write as _;

    fn log() -> (tempfile::TempDir, LogFile) {
        let root = tempfile::tempdir().unwrap();
        let dir = WorkerDirs::new(root.path().to_owned()).of(&"w-1".parse().unwrap());
        fs::create_dir(dir.path()).unwrap();
        (root, LogFile::new(dir))
    }

    #[test]
    fn the_last_lines_are_escaped() {
        let (_root, log) = log();
        assert_eq!(log.tail(5).unwrap(), Vec::<String>::new());
        let mut file = log.create().unwrap();
        file.write_all(b"one\ntwo\n\x1b[31mthree\xff").unwrap();
        assert_eq!(log.tail(2).unwrap(), ["two", "\\u{1b}[31mthree\u{fffd}"]);
        assert_eq!(log.tail(9).unwrap().len(), 3);
        assert_eq!(log.tail(0).unwrap().len(), 0);
    }

    #[test]
    fn a_large_log_is_read_from_its_end() {
        let (_root, log) = log();
        let mut file = log.create().unwrap();
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..2048 {
            file.write_all(line.as_bytes()).unwrap();
        }
        let all = log.tail(usize::MAX).unwrap();
        assert_eq!(all.len(), 1023, "the incomplete line is left out");
        assert!(all.iter().all(|l| l.len() == 1023));
    }

    #[test]
    fn only_one_previous_log_is_kept() {
        let (_root, log) = log();
        log.rotate().unwrap();
        for text in ["first", "second", "third"] {
            log.rotate().unwrap();
            log.create().unwrap().write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(log.tail(1).unwrap(), ["third"]);
        assert_eq!(fs::read(log.dir.previous_log()).unwrap(), b"second");
        assert_eq!(fs::read_dir(log.dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn the_end_of_a_previous_log_over_the_limit_is_kept() {
        let (_root, log) = log();
        let mut file = log.create().unwrap();
        file.write_all(&vec![b'a'; PREVIOUS_LIMIT_BYTES as usize])
            .unwrap();
        file.write_all(b"the end").unwrap();
        log.rotate().unwrap();
        let kept = fs::read(log.dir.previous_log()).unwrap();
        assert_eq!(kept.len() as u64, PREVIOUS_LIMIT_BYTES);
        assert!(kept.ends_with(b"the end"));
        assert!(!log.path().exists());
    }

    #[test]
    fn a_fatal_line_counts_only_as_the_last_line() {
        let (_root, log) = log();
        let fatal = r#"{"fatal":{"code":"INVALID_MODEL_FILE","message":"cut\u001b short"}}"#;
        let mut file = log.create().unwrap();
        writeln!(file, "starting\n{fatal}").unwrap();
        let error = log.fatal().unwrap();
        assert_eq!(error.code, Code::InvalidModelFile);
        assert_eq!(error.message, "cut\\u{1b} short");
        writeln!(file, "and then something else").unwrap();
        assert_eq!(log.fatal(), None);
    }
}
