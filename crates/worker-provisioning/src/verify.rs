//! Binaries are verified by running them.

use std::{path::Path, time::Duration};

use diagnostics::Diagnostic;
use input_validation::{BinaryVersion, WorkerType};
use state_files::StagingDir;
use tokio_util::sync::CancellationToken;

use crate::{
    child::{End, Program},
    errors,
    tools::Tools,
};

/// Time limit for `--version`.
const VERSION_LIMIT: Duration = Duration::from_secs(30);
/// Time limit for `--self-test`, which infers with a small model.
const SELF_TEST_LIMIT: Duration = Duration::from_secs(300);
/// Maximum size of the output, in bytes.
const OUTPUT_LIMIT: u64 = 256 * 1024;
/// Characters of arguments in messages.
const SHOWN_ARGUMENTS: usize = 100;

/// Verifies a program by running it.
pub(crate) struct Verifier<'a> {
    pub(crate) worker_type: &'a WorkerType,
    pub(crate) program: &'a Path,
    pub(crate) staging: &'a StagingDir,
    pub(crate) tools: &'a Tools,
    pub(crate) cancel: &'a CancellationToken,
}

impl Verifier<'_> {
    /// Runs a worker with `--version` and `--self-test`. Returns its version.
    ///
    /// Errors: `BINARY_VERIFICATION_FAILED`, `CANCELLED`.
    pub(crate) async fn worker(&self) -> Result<BinaryVersion, Diagnostic> {
        let printed = self.run(&["--version".to_owned()], VERSION_LIMIT).await?;
        let version = version_in(&printed).ok_or_else(|| {
            let why = "does not print its version with --version";
            errors::not_verified(self.worker_type, why, &printed)
        })?;
        self.run(&["--self-test".to_owned()], SELF_TEST_LIMIT)
            .await?;
        Ok(version)
    }

    /// Runs an engine with arguments with which it ends by itself.
    ///
    /// Errors: `BINARY_VERIFICATION_FAILED`, `CANCELLED`.
    pub(crate) async fn engine(&self, arguments: &[String]) -> Result<(), Diagnostic> {
        self.run(arguments, SELF_TEST_LIMIT).await.map(drop)
    }

    /// Returns what the program has printed.
    async fn run(&self, arguments: &[String], limit: Duration) -> Result<String, Diagnostic> {
        let what = format!("the verification of {}", self.worker_type);
        let shown = diagnostics::excerpt(&arguments.join(" "), SHOWN_ARGUMENTS);
        let mut printed = Vec::new();
        let end = Program {
            what: &what,
            executable: self.program.to_owned(),
            args: arguments.iter().map(Into::into).collect(),
            dir: self.staging.path(),
            path: self.tools.path(),
            env: &[],
            limit,
            output_limit: OUTPUT_LIMIT,
        }
        .run(self.staging, self.cancel, |bytes| {
            printed.extend_from_slice(bytes);
        })
        .await;
        let printed = String::from_utf8_lossy(&printed).into_owned();
        let refuse = |why: String| Err(errors::not_verified(self.worker_type, why, &printed));
        match end {
            Ok(End::Exited(status)) if status.success() => Ok(printed),
            Ok(End::Exited(status)) => refuse(format!("does not run with {shown}: {status}")),
            Ok(End::TooSlow) => refuse(format!("ran with {shown} for {} s", limit.as_secs())),
            Ok(End::TooMuchOutput) => refuse(format!("printed too much with {shown}")),
            Err(error) if error.code == diagnostics::Code::StateUnusable => refuse(error.message),
            Err(error) => Err(error),
        }
    }
}

/// The version in `NAME VERSION`.
fn version_in(printed: &str) -> Option<BinaryVersion> {
    let line = printed.lines().find(|line| !line.trim().is_empty())?;
    let word = line.split_whitespace().nth(1)?;
    word.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_second_word() {
        let version = |text: &str| version_in(text).map(|version| version.to_string());
        assert_eq!(version("llm-cpu-worker-rbee 0.1.0\n"), Some("0.1.0".into()));
        assert_eq!(version("\nx 1-rc (abc)"), Some("1-rc".into()));
        for bad in ["", "0.1.0", "x ../y", "x -v"] {
            assert_eq!(version(bad), None, "{bad}");
        }
    }
}
