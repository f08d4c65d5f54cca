use std::io::{Error, ErrorKind};

use crate::{Code, Diagnostic};

impl Diagnostic {
    /// Creates an error about a file or a directory. The code and the hint follow from the cause:
    /// a full disk is not a matter of permissions.
    pub fn storage(message: impl Into<String>, cause: &Error) -> Self {
        let (code, hint) = match cause.kind() {
            ErrorKind::StorageFull => (Code::DiskFull, "free space on its disk"),
            ErrorKind::QuotaExceeded => (
                Code::DiskFull,
                "free space within the disk quota of this user",
            ),
            ErrorKind::ReadOnlyFilesystem => (
                Code::StateUnusable,
                "its file system is mounted read-only; mount it for writing",
            ),
            _ => (Code::StateUnusable, "check its owner and permissions"),
        };
        Self::new(code, message).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_follows_from_the_cause() {
        for (kind, code, hint) in [
            (ErrorKind::StorageFull, Code::DiskFull, "free space"),
            (ErrorKind::QuotaExceeded, Code::DiskFull, "quota"),
            (
                ErrorKind::ReadOnlyFilesystem,
                Code::StateUnusable,
                "read-only",
            ),
            (
                ErrorKind::PermissionDenied,
                Code::StateUnusable,
                "permissions",
            ),
        ] {
            let error = Diagnostic::storage("cannot write x", &Error::from(kind));
            assert_eq!(error.code, code);
            assert!(error.hint.unwrap().contains(hint), "{kind}");
        }
    }
}
