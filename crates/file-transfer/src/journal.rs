//! The record beside a partial file that says which of its bytes are there.
//!
//! The first line says which file it is and which bytes were on the disk when the line was
//! written. Every other line is a range that was handed to the kernel since, which survives
//! the death of the process, but not that of the machine: such lines count for the boot that the
//! first line names only.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    ops::Range,
    path::{Path, PathBuf},
};

use diagnostics::{Code, Diagnostic};
use serde::{Deserialize, Serialize};

use crate::{errors, ranges::Ranges};

/// Version of the format.
const VERSION: u32 = 1;
/// Largest journal that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;
/// Size at which a journal is rewritten, in bytes.
const LONG: u64 = 1 << 20;

/// Which version of which file the bytes belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) size: u64,
    /// In hexadecimal digits.
    pub(crate) sha256: Option<String>,
    pub(crate) etag: Option<String>,
}

impl Identity {
    /// Whether both are the same version of a file. `false` if this is not known.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same = |a: &Option<String>, b: &Option<String>| Some(a.as_ref()? == b.as_ref()?);
        self.size == other.size
            && same(&self.sha256, &other.sha256)
                .or_else(|| same(&self.etag, &other.etag))
                .unwrap_or(false)
    }
}

#[derive(Serialize, Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    #[serde(flatten)]
    identity: Identity,
    /// Boot of the machine that wrote this.
    boot: Option<String>,
    /// Bytes that survive a loss of power.
    synced: Vec<(u64, u64)>,
}

/// What a journal says.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) identity: Identity,
    /// Bytes that are there.
    pub(crate) written: Ranges,
    /// Those of them that survive a loss of power.
    pub(crate) synced: Ranges,
}

/// Reads a journal. `None` if there is none, if it is damaged, or if it claims bytes beyond
/// `part_size`, the size of the partial file.
pub(crate) fn read(path: &Path, part_size: u64) -> Result<Option<Record>, Diagnostic> {
    let text = match fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_BYTES => return Ok(None),
        Ok(_) => fs::read(path),
        Err(e) => Err(e),
    };
    let text = match text {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(errors::storage("cannot read", path, &e)),
    };
    let version = first_line(&text).and_then(|line| serde_json::from_slice::<Version>(line).ok());
    if let Some(Version { version }) = version
        && version > VERSION
    {
        return Err(Diagnostic::new(
            Code::StateTooNew,
            format!(
                "a newer version of rbee began the download that {} describes",
                errors::show(path)
            ),
        )
        .hint("continue with that version, or remove the file to start over"));
    }
    Ok(parse(&text, boot().as_deref())
        .filter(|record| record.written.end() <= part_size.min(record.identity.size)))
}

fn first_line(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    text.get(..end)
}

fn parse(text: &[u8], boot: Option<&str>) -> Option<Record> {
    let first = first_line(text)?;
    let head: Head = serde_json::from_slice(first).ok()?;
    let rest = text.get(first.len() + 1..)?;
    let mut written = Vec::new();
    if boot.is_some() && boot == head.boot.as_deref() {
        // The last line may be incomplete.
        for line in rest.split_inclusive(|byte| *byte == b'\n') {
            if line.ends_with(b"\n") {
                written.push(serde_json::from_slice::<(u64, u64)>(line).ok()?);
            }
        }
    }
    written.extend(&head.synced);
    if written.iter().any(|(start, end)| start >= end) {
        return None;
    }
    let set = |ranges: Vec<(u64, u64)>| ranges.into_iter().map(|(start, end)| start..end).collect();
    Some(Record {
        identity: head.identity,
        written: set(written),
        synced: set(head.synced),
    })
}

/// The journal of the transfer that runs.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    identity: Identity,
    file: File,
    bytes: u64,
}

impl Journal {
    /// Begins a journal. `written` is there, and `synced` of it survives a loss of power.
    pub(crate) fn begin(
        path: PathBuf,
        identity: Identity,
        synced: &Ranges,
        written: &Ranges,
    ) -> Result<Self, Diagnostic> {
        let text = render(&identity, synced, written)?;
        let file = replace(&path, &text, synced.count() > 0)?;
        Ok(Self {
            path,
            identity,
            file,
            bytes: text.len() as u64,
        })
    }

    /// Adds ranges that were handed to the kernel.
    pub(crate) fn append(&mut self, written: &[Range<u64>]) -> Result<(), Diagnostic> {
        let mut text = String::new();
        for range in written {
            add_line(&mut text, range);
        }
        self.bytes += text.len() as u64;
        self.file
            .write_all(text.as_bytes())
            .map_err(|e| errors::storage("cannot write", &self.path, &e))
    }

    /// Whether it should be replaced by a shorter one.
    pub(crate) fn is_long(&self) -> bool {
        self.bytes > LONG
    }

    /// Replaces the journal. `synced` survives a loss of power; `written` is all that was
    /// appended.
    pub(crate) fn replace(&mut self, synced: &Ranges, written: &Ranges) -> Result<(), Diagnostic> {
        let text = render(&self.identity, synced, written)?;
        self.file = replace(&self.path, &text, true)?;
        self.bytes = text.len() as u64;
        Ok(())
    }
}

fn render(identity: &Identity, synced: &Ranges, written: &Ranges) -> Result<String, Diagnostic> {
    let head = Head {
        version: VERSION,
        identity: identity.clone(),
        boot: boot(),
        synced: synced.iter().map(|r| (r.start, r.end)).collect(),
    };
    let mut text = serde_json::to_string(&head).map_err(Diagnostic::internal)?;
    text.push('\n');
    for range in written.iter() {
        add_line(&mut text, &range);
    }
    Ok(text)
}

fn add_line(text: &mut String, range: &Range<u64>) {
    use std::fmt::Write as _;
    // Writing to a String cannot fail.
    let _ = writeln!(text, "[{},{}]", range.start, range.end);
}

/// Replaces the file atomically and returns it.
fn replace(path: &Path, text: &str, sync: bool) -> Result<File, Diagnostic> {
    let new = errors::with_suffix(path, ".new");
    let write = || -> std::io::Result<File> {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        if sync {
            file.sync_data()?;
        }
        fs::rename(&new, path)?;
        Ok(file)
    };
    write().map_err(|e| errors::storage("cannot write", path, &e))
}

/// Identifies the boot of this machine, where the system has such an id.
fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    fn identity() -> Identity {
        Identity {
            size: 100,
            sha256: None,
            etag: Some("v1".to_owned()),
        }
    }

    fn ranges(ranges: &[(u64, u64)]) -> Ranges {
        ranges.iter().map(|(start, end)| *start..*end).collect()
    }

    #[test]
    fn what_was_not_synced_counts_for_the_same_boot_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.part.state");
        let mut journal =
            Journal::begin(path.clone(), identity(), &ranges(&[]), &ranges(&[])).unwrap();
        journal.append(&[0..10, 20..30]).unwrap();
        let written = ranges(&[(0, 10), (20, 30)]);
        assert_eq!(read(&path, 100).unwrap().unwrap().written, written);
        journal.replace(&ranges(&[(0, 10)]), &written).unwrap();
        journal.append(slice::from_ref(&(10..12))).unwrap();
        let record = read(&path, 100).unwrap().unwrap();
        assert_eq!(record.written, ranges(&[(0, 12), (20, 30)]));
        assert_eq!(record.synced, ranges(&[(0, 10)]));
        assert_eq!(record.identity, identity());
        let text = fs::read(&path).unwrap();
        for other in [None, Some("other")] {
            assert_eq!(parse(&text, other).unwrap().written, ranges(&[(0, 10)]));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_cut_line_is_ignored_and_a_damaged_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let mut journal =
            Journal::begin(path.clone(), identity(), &ranges(&[]), &ranges(&[])).unwrap();
        journal.append(slice::from_ref(&(0..10))).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}[20,3")).unwrap();
        assert_eq!(
            read(&path, 100).unwrap().unwrap().written,
            ranges(&[(0, 10)])
        );
        for damaged in [
            format!("{text}[20,x]\n"),
            format!("{text}[20,10]\n"),
            format!("{text}[20,101]\n"),
            text.replace("v1", "\u{0}"),
            text.replace("\"size\":", "\"sice\":"),
            text.replace('\n', ""),
            String::new(),
        ] {
            fs::write(&path, &damaged).unwrap();
            assert!(read(&path, 1000).unwrap().is_none(), "{damaged}");
        }
        fs::write(&path, &text).unwrap();
        assert!(read(&path, 9).unwrap().is_none(), "beyond the partial file");
    }

    #[test]
    fn a_newer_journal_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        fs::write(&path, "{\"version\":2,\"other\":true}\nwhatever").unwrap();
        assert_eq!(read(&path, 100).unwrap_err().code, Code::StateTooNew);
    }

    #[test]
    fn a_version_is_known_by_its_hash_before_its_etag() {
        let hash = |hash: &str, etag: &str| Identity {
            size: 100,
            sha256: Some(hash.to_owned()),
            etag: Some(etag.to_owned()),
        };
        assert!(hash("a", "v1").is_same(&hash("a", "v2")));
        assert!(!hash("a", "v1").is_same(&hash("b", "v1")));
        assert!(hash("a", "v1").is_same(&identity()));
        let unknown = Identity {
            etag: None,
            ..identity()
        };
        assert!(!unknown.is_same(&unknown));
    }
}
