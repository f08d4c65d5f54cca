use std::fmt;

/// Why a PKGBUILD cannot be used. Texts of the file are escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PkgbuildError {
    /// The file is too large, or nested too deeply, to be parsed.
    #[error("{0}")]
    TooComplex(String),
    /// It is not a bash script.
    #[error("it is not a valid script: {0}")]
    Syntax(String),
    /// A variable that is required is missing or empty.
    #[error("`{0}` is not set")]
    Missing(&'static str),
    /// A variable has an unusable value.
    #[error("`{variable}` is {value}, which is {problem}")]
    Invalid {
        /// Its name.
        variable: String,
        /// Its value, quoted.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Several packages are built, and none was chosen.
    #[error("it builds several packages: {}; choose one of them", .0.join(", "))]
    SplitPackage(Vec<String>),
    /// The chosen package is not built.
    #[error("it builds no package {chosen}, but {}", .known.join(", "))]
    NoSuchPackage {
        /// What was chosen.
        chosen: String,
        /// What is built.
        known: Vec<String>,
    },
    /// The package is not for this machine.
    #[error("it is for {}, and this machine is {machine}", .supported.join(", "))]
    UnsupportedArchitecture {
        /// What `arch` lists.
        supported: Vec<String>,
        /// Architecture of this machine.
        machine: &'static str,
    },
    /// A source has no checksum, or several lists of checksums have other lengths.
    #[error("`{sources}` has {expected} entries, and `{sums}` has {found}")]
    ChecksumCount {
        /// Name of the array of sources.
        sources: String,
        /// Its length.
        expected: usize,
        /// Name of the array of checksums.
        sums: String,
        /// Its length.
        found: usize,
    },
    /// No array of checksums that are strong enough exists for these sources.
    #[error("`{0}` has no checksums; sha256sums, sha512sums or b2sums are needed")]
    NoChecksums(String),
    /// A function is missing.
    #[error("there is no function {0}()")]
    NoFunction(String),
}

/// Something that only bash can evaluate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedsBash {
    /// Line of the file, from 1.
    pub line: usize,
    /// What it is.
    pub what: &'static str,
}

impl fmt::Display for NeedsBash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Quotes a text of the file for a message; long ones are cut.
pub(crate) fn show(text: &str) -> String {
    const MOST: usize = 80;
    let quoted = format!("`{}`", text.escape_debug());
    match quoted.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…`", &quoted[..end]),
        None => quoted,
    }
}

pub(crate) fn invalid(variable: &str, value: &str, problem: &'static str) -> PkgbuildError {
    PkgbuildError::Invalid {
        variable: variable.to_owned(),
        value: show(value),
        problem,
    }
}
