//! The errors of this crate.

use std::path::Path;

use diagnostics::{Code, Diagnostic};
use rusqlite::ErrorCode;

/// The file exists and is not a usable database of the owner.
pub(crate) fn unusable(path: &Path, owner: &str, cause: &str) -> Diagnostic {
    Diagnostic::new(
        Code::StateUnusable,
        format!("{} cannot be used: {cause}", path.display()),
    )
    .hint(format!(
        "restore {0} from a copy, or move it away; without it the {owner} starts with no state",
        path.display()
    ))
}

/// SQLite reported an error.
pub(crate) fn sqlite(path: &Path, owner: &str, error: &rusqlite::Error) -> Diagnostic {
    let mut diagnostic = unusable(path, owner, &error.to_string());
    if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
        diagnostic.code = Code::DiskFull;
        diagnostic.hint = Some("free space on the disk that holds rbee's state".to_owned());
    }
    diagnostic
}

pub(crate) fn too_new(path: &Path, found: i64, newest: i64) -> Diagnostic {
    Diagnostic::new(
        Code::StateTooNew,
        format!(
            "{} has schema {found}, this rbee knows schemas up to {newest}",
            path.display()
        ),
    )
    .hint("run the newer rbee that wrote it, or set `RBEE_HOME` to another directory")
    .detail("schema", found)
    .detail("newest_known", newest)
}
