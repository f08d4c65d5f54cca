//! Which sources are archives, and the commands that extract them in the sandbox.

/// A format of archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Tar(Compression),
    Zip,
    /// A single file.
    Single(Compression),
}

/// A compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Xz,
    Bzip2,
    Zstd,
}

const SUFFIXES: [(&str, Format); 13] = [
    (".tar", Format::Tar(Compression::None)),
    (".tar.gz", Format::Tar(Compression::Gzip)),
    (".tgz", Format::Tar(Compression::Gzip)),
    (".tar.xz", Format::Tar(Compression::Xz)),
    (".txz", Format::Tar(Compression::Xz)),
    (".tar.bz2", Format::Tar(Compression::Bzip2)),
    (".tbz2", Format::Tar(Compression::Bzip2)),
    (".tar.zst", Format::Tar(Compression::Zstd)),
    (".zip", Format::Zip),
    (".gz", Format::Single(Compression::Gzip)),
    (".xz", Format::Single(Compression::Xz)),
    (".bz2", Format::Single(Compression::Bzip2)),
    (".zst", Format::Single(Compression::Zstd)),
];

/// Format of a source by its name; `None` if it is not an archive.
pub(crate) fn format_of(name: &str) -> Option<Format> {
    let fits = SUFFIXES
        .iter()
        .filter(|(suffix, _)| name.len() > suffix.len() && name.ends_with(suffix));
    fits.max_by_key(|(suffix, _)| suffix.len())
        .map(|(_, format)| *format)
}

/// What tar prints about paths that it has changed, because they lead out of the directory. It
/// fails for other unsafe ones.
pub(crate) const UNSAFE_PATH: &str = "Removing leading";

/// Whether a list of members, one per line, contains one outside of the directory.
pub(crate) fn leaves_directory(members: &[u8]) -> bool {
    members.split(|byte| *byte == b'\n').any(|path| {
        path.starts_with(b"/") || path.split(|byte| *byte == b'/').any(|part| part == b"..")
    })
}

impl Format {
    /// Programs that extract it, with their Debian packages.
    pub(crate) fn programs(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Zip => vec![("unzip", "unzip")],
            Self::Tar(compression) => [("tar", "tar")]
                .into_iter()
                .chain(compression.program())
                .collect(),
            Self::Single(compression) => compression.program().into_iter().collect(),
        }
    }

    /// Command that lists the members of an archive, if its extractor does not tell which ones
    /// are unsafe.
    pub(crate) fn list_command(self, name: &str) -> Option<Vec<String>> {
        let command = ["unzip", "-Z1", &format!("./{name}")].map(str::to_owned);
        (self == Self::Zip).then(|| command.to_vec())
    }

    /// Command that extracts an archive into the working directory, which contains it.
    pub(crate) fn command(self, name: &str) -> Vec<String> {
        let file = format!("./{name}");
        let words: &[&str] = match self {
            // Owners are not restored, and members that leave the directory are an error.
            Self::Tar(_) => &["tar", "--force-local", "--no-same-owner", "-xf", &file],
            Self::Zip => &["unzip", "-q", "-o", &file],
            Self::Single(compression) => {
                let program = compression.program().map_or("cat", |(program, _)| program);
                let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
                let script = r#"exec "$1" -dc <"$2" >"$3""#;
                &["bash", "-c", script, "bash", program, &file, stem]
            }
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}

impl Compression {
    fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::None => None,
            Self::Gzip => Some(("gzip", "gzip")),
            Self::Xz => Some(("xz", "xz-utils")),
            Self::Bzip2 => Some(("bzip2", "bzip2")),
            Self::Zstd => Some(("zstd", "zstd")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_outside_of_the_directory_are_found() {
        assert!(!leaves_directory(b"a/b\na..b\n./..a\n"));
        for members in ["/a", "x\n../a\n", "a/../../b", "a/.."] {
            assert!(leaves_directory(members.as_bytes()), "{members}");
        }
    }

    #[test]
    fn archives_are_known_by_their_names() {
        for (name, format) in [
            ("a-1.tar.gz", Some(Format::Tar(Compression::Gzip))),
            ("a.tgz", Some(Format::Tar(Compression::Gzip))),
            ("a.tar.zst", Some(Format::Tar(Compression::Zstd))),
            ("a.patch.gz", Some(Format::Single(Compression::Gzip))),
            ("a.zip", Some(Format::Zip)),
            ("a.whl", None),
            ("zip", None),
        ] {
            assert_eq!(format_of(name), format, "{name}");
        }
    }
}
