use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use diagnostics::{Diagnostic, escape};
use state_files::WorkerDir;
use worker_contract::FatalLine;

/// Of the previous log, the last bytes that are kept.
const PREVIOUS_LIMIT_BYTES: u64 = 16 * 1024 * 1024;
/// Longest end of a log that is read for its last lines.
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

    /// Keeps the log of the previous process, at most its last 16 MiB.
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

    /// An empty log, open for appending.
    pub fn create(&self) -> io::Result<File> {
        create(&self.path())
    }

    /// The last lines, at most `lines` and 1 MiB, escaped; empty when there is no log.
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
        // The first line of a cut text is only the end of one.
        let whole: Vec<&str> = text.lines().skip(usize::from(cut)).collect();
        let from = whole.len().saturating_sub(lines);
        Ok(whole[from..].iter().map(|line| escape(line)).collect())
    }

    /// Why the worker gave up, when its last line says so.
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
    // Truncated by itself, because append and truncate cannot be asked for together.
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

/// The file, positioned at its last `limit` bytes, and whether that left something out.
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
    fn the_last_lines_are_told_harmless() {
        let (_root, log) = log();
        assert_eq!(log.tail(5).unwrap(), Vec::<String>::new());
        let mut file = log.create().unwrap();
        file.write_all(b"one\ntwo\n\x1b[31mthree\xff").unwrap();
        assert_eq!(log.tail(2).unwrap(), ["two", "\\u{1b}[31mthree\u{fffd}"]);
        assert_eq!(log.tail(9).unwrap().len(), 3);
        assert_eq!(log.tail(0).unwrap().len(), 0);
    }

    #[test]
    fn a_huge_log_is_read_from_its_end() {
        let (_root, log) = log();
        let mut file = log.create().unwrap();
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..2048 {
            file.write_all(line.as_bytes()).unwrap();
        }
        let all = log.tail(usize::MAX).unwrap();
        assert_eq!(all.len(), 1023, "the line that was cut is left out");
        assert!(all.iter().all(|l| l.len() == 1023));
    }

    #[test]
    fn the_previous_log_is_kept_and_only_that() {
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
    fn a_previous_log_over_the_limit_keeps_its_end() {
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
    fn a_fatal_line_is_an_error_only_when_it_is_last() {
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
