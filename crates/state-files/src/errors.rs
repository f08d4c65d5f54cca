use std::{io, path::Path, time::Duration};

use diagnostics::{Code, Diagnostic};

pub(crate) fn no_home_directory() -> Diagnostic {
    Diagnostic::new(Code::ConfigInvalid, "this user has no home directory")
        .hint("set `RBEE_HOME` to a directory for rbee's state")
}

pub(crate) fn unusable(path: &Path, error: &io::Error) -> Diagnostic {
    let error = Diagnostic::storage(format!("cannot use {}: {error}", path.display()), error);
    let hint = error.hint.clone().unwrap_or_default();
    error.hint(format!("{hint}, or set `RBEE_HOME` to another directory"))
}

/// The record of a join is not intact. `why` is escaped.
pub(crate) fn damaged_join(path: &Path, why: &str) -> Diagnostic {
    Diagnostic::new(
        Code::StateUnusable,
        format!("{} is damaged: {why}", path.display()),
    )
    .hint("`rbee-hive join` with a new invitation writes it again; `rbee-hive leave` removes it")
}

pub(crate) fn too_new(path: &Path, found: u64, newest_known: u64) -> Diagnostic {
    Diagnostic::new(
        Code::StateTooNew,
        format!(
            "{} has format {found}, this rbee knows formats up to {newest_known}",
            path.display()
        ),
    )
    .hint("run the newer rbee that wrote it, or set `RBEE_HOME` to another directory")
    .detail("format", found)
    .detail("newest_known", newest_known)
}

pub(crate) fn home_in_use(daemon: &str, home: &Path, user: &str) -> Diagnostic {
    Diagnostic::new(
        Code::StateUnusable,
        format!("another {daemon} is using {} ({user})", home.display()),
    )
    .hint("use the running one, or choose another directory with `--home`")
}

/// A process that holds the lock of a daemon and has no record.
pub(crate) fn no_record(record: &Path, lock: &Path, limit: Duration) -> Diagnostic {
    Diagnostic::new(
        Code::StateUnusable,
        format!(
            "a process holds {} and has not written {} for {} s",
            lock.display(),
            record.display(),
            limit.as_secs()
        ),
    )
    .hint("check the owner and permissions of the directory and the free space on its disk")
}
