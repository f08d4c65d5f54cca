//! What a hive that was killed has left.

use daemon_shell::Signal;
use diagnostics::Diagnostic;
use state_files::{BinaryDirs, BuildRecord};

use crate::install::remove_dir;

/// Ends the builds of an earlier hive and removes their files. Returns their number.
pub(crate) fn remove_staged(dirs: &BinaryDirs) -> Result<usize, Diagnostic> {
    let staged = dirs.staged()?;
    for staging in &staged {
        // A process that has another start time is not the build's.
        if let Some(record) = BuildRecord::read(staging)?.intact() {
            record.process.signal_group(Signal::Kill)?;
        }
        remove_dir(staging.path())?;
    }
    Ok(staged.len())
}
