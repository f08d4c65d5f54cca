use std::{
    fmt, fs, io, num::ParseIntError, os::unix::fs::MetadataExt as _, path::Path, str::FromStr,
};

/// Identifies the content of the weights without reading it. For a directory, of all its files
/// of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint {
    size: u64,
    /// Last change, in nanoseconds since the Unix epoch.
    modified: i128,
    inodes: u64,
}

impl Fingerprint {
    /// Reads the metadata of a file, or of the safetensors in a directory.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        if !metadata.is_dir() {
            return Ok(Self::default().and(&metadata));
        }
        let mut all = Self::default();
        for entry in fs::read_dir(path)? {
            let file = entry?.path();
            if file.extension().is_some_and(|e| e == "safetensors") {
                all = all.and(&fs::metadata(file)?);
            }
        }
        Ok(all)
    }

    fn and(self, metadata: &fs::Metadata) -> Self {
        let nanoseconds = i128::from(metadata.mtime()) * 1_000_000_000;
        Self {
            size: self.size.wrapping_add(metadata.len()),
            modified: self
                .modified
                .max(nanoseconds + i128::from(metadata.mtime_nsec())),
            inodes: self.inodes.wrapping_add(metadata.ino()),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.size, self.modified, self.inodes)
    }
}

impl FromStr for Fingerprint {
    type Err = ParseIntError;
    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        let mut parts = text.split(' ');
        let mut next = || parts.next().unwrap_or_default();
        Ok(Self {
            size: next().parse()?,
            modified: next().parse()?,
            inodes: next().parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_or_changed_has_another_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        fs::write(&path, "one").unwrap();
        let first = Fingerprint::of(&path).unwrap();
        assert_eq!(first.to_string().parse(), Ok(first));
        assert_eq!(Fingerprint::of(&path).unwrap(), first);
        let of_directory = Fingerprint::of(dir.path()).unwrap();
        fs::write(dir.path().join("notes.txt"), "x").unwrap();
        assert_eq!(Fingerprint::of(dir.path()).unwrap(), of_directory);
        let copy = dir.path().join("b");
        fs::write(&copy, "two").unwrap();
        fs::rename(&copy, &path).unwrap();
        assert_ne!(Fingerprint::of(&path).unwrap(), first);
        assert_ne!(Fingerprint::of(dir.path()).unwrap(), of_directory);
        assert!(Fingerprint::of(&copy).is_err());
    }
}
