//! Builds packages from PKGBUILDs (PKGBUILD(5)) in a sandbox.
//!
//! [`PackageBuilder::build`] evaluates a recipe, fetches its sources, verifies their checksums,
//! extracts archives, runs its functions, and returns the tree that `package()` has installed.
//! Nothing of a recipe runs before the user has agreed to its text ([`Approval`]), and
//! everything of it runs under bubblewrap: it sees the programs of the system and its own
//! folders, and no network.
//!
//! `install` scripts and the `options` of a recipe are ignored: the package is not installed
//! into the system.

#![warn(missing_docs)]

mod build;
mod build_user;
mod driver;
mod errors;
mod evaluate;
mod extract;
mod fetch;
mod limits;
mod log;
mod request;
mod sandbox;
mod sequence;
mod stage;
mod steps;
mod supervise;
mod tools;
mod usage;
mod verify;
mod work_folder;

pub use limits::Limits;
pub use request::{
    Approval, BuildEvent, BuildRequest, BuiltPackage, PackagedFile, PackagedKind, Phase, Settings,
};

use std::{sync::Arc, thread};

use diagnostics::Diagnostic;
use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::sync::CancellationToken;

use build::Build;

/// Receives what happens during a build, on the build's own thread.
pub type BuildListener = Arc<dyn Fn(BuildEvent) + Send + Sync>;

/// Builds packages with common settings.
#[derive(Debug, Clone)]
pub struct PackageBuilder {
    settings: Arc<Settings>,
}

impl PackageBuilder {
    /// Creates a builder.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
        }
    }

    /// Builds a package. On success, the work folder contains the files of the package and
    /// nothing else; otherwise it is removed. The log is kept in any case.
    ///
    /// When `cancel` is cancelled, or the future is dropped, all processes of the build are
    /// killed.
    ///
    /// Errors, before anything of the recipe runs: `PACKAGE_NOT_APPROVED`, `PACKAGE_INVALID`,
    /// `SANDBOX_UNAVAILABLE`, `BUILD_TOOLS_MISSING`, `CUDA_TOOLKIT_MISSING`. Then:
    /// `DOWNLOAD_FAILED`, `DOWNLOAD_STALLED`, `CHECKSUM_MISMATCH`, `BUILD_FAILED`,
    /// `STATE_UNUSABLE`, `DISK_FULL`, `CANCELLED`.
    pub async fn build(
        &self,
        request: BuildRequest,
        listener: BuildListener,
        cancel: &CancellationToken,
    ) -> Result<BuiltPackage, Diagnostic> {
        let cancel = cancel.child_token();
        let _cancel_on_drop = cancel.clone().drop_guard();
        let settings = Arc::clone(&self.settings);
        let runtime = Handle::current();
        let (sender, receiver) = oneshot::channel();
        // A thread of its own: bubblewrap is killed when the thread that started it ends.
        thread::Builder::new()
            .name("package-build".to_owned())
            .spawn(move || {
                let build = Build {
                    settings: &settings,
                    request: &request,
                    listener: &*listener,
                    cancel: &cancel,
                    runtime: &runtime,
                };
                // Nobody receives it if the future was dropped.
                let _ = sender.send(sequence::run(&build));
            })
            .map_err(|e| Diagnostic::internal(format!("no thread for the build: {e}")))?;
        receiver
            .await
            .unwrap_or_else(|_| Err(Diagnostic::internal("the build panicked")))
    }
}
