use std::fmt::Debug;

use daemon_shell::ProcessIdentity;
use diagnostics::Diagnostic;
use futures_util::future::BoxFuture;
use hive_contract::{HiveClient, HiveShutdownRequest};
use queen_contract::HiveService;

use crate::errors;

/// A hive that responds to calls.
#[derive(Debug, Clone)]
pub struct RunningHive {
    pub client: HiveClient,
    /// Its process on its own machine.
    pub process: ProcessIdentity,
}

/// A machine on which a hive can run.
pub trait HiveHost: Debug + Send + Sync + 'static {
    /// Returns the running hive; starts one if none runs.
    ///
    /// Errors: [`Code::VersionIncompatible`](diagnostics::Code::VersionIncompatible) if the
    /// running hive has another interface version,
    /// [`Code::HiveUnreachable`](diagnostics::Code::HiveUnreachable) if it does not respond,
    /// [`Code::HiveNotInstalled`](diagnostics::Code::HiveNotInstalled) and
    /// [`Code::HiveStartFailed`](diagnostics::Code::HiveStartFailed).
    fn ensure(&self) -> BoxFuture<'_, Result<RunningHive, Diagnostic>>;

    /// Resolves when the hive has exited or is out of reach.
    fn lost<'a>(&'a self, hive: &'a RunningHive) -> BoxFuture<'a, ()>;

    /// Stops the hive, after its workers if requested, and returns when its process has
    /// exited. A hive that does not exit by itself receives SIGTERM, then SIGKILL.
    fn stop<'a>(
        &'a self,
        hive: &'a RunningHive,
        request: &'a HiveShutdownRequest,
    ) -> BoxFuture<'a, Result<(), Diagnostic>>;

    /// Whether the queen starts the hive, and therefore stops it with its workers. Otherwise the
    /// hive is only found and watched.
    fn starts_hive(&self) -> bool {
        true
    }

    /// Who keeps the hive running, if that is known.
    fn service(&self) -> Option<HiveService> {
        None
    }

    /// Resolves when something has changed, so that another attempt to start the hive can
    /// succeed at once.
    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// The state of the node after [`lost`](Self::lost).
    fn loss(&self) -> Diagnostic {
        errors::exited()
    }
}
