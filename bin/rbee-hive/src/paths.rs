use std::path::{Path, PathBuf};

use diagnostics::{Code, Diagnostic};

/// Makes a path independent of the current directory.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Diagnostic> {
    std::path::absolute(path)
        .map_err(|e| Diagnostic::new(Code::ConfigInvalid, format!("{}: {e}", path.display())))
}
