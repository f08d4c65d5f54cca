use diagnostics::Diagnostic;
use futures_util::future::{BoxFuture, pending, ready};
use hive_contract::HiveShutdownRequest;
use hive_lifecycle::{HiveHost, RunningHive};
use node_link::{Endpoint, Link};

/// The parts of a registered node that could not be opened: every use fails for the same reason.
#[derive(Debug, Clone)]
pub(crate) struct Unopened(pub(crate) Diagnostic);

impl Link for Unopened {
    fn endpoint(&self, _: u16) -> BoxFuture<'_, Result<Endpoint, Diagnostic>> {
        Box::pin(ready(Err(self.0.clone())))
    }

    fn queen_url(&self) -> BoxFuture<'_, Result<String, Diagnostic>> {
        Box::pin(ready(Err(self.0.clone())))
    }
}

impl HiveHost for Unopened {
    fn ensure(&self) -> BoxFuture<'_, Result<RunningHive, Diagnostic>> {
        Box::pin(ready(Err(self.0.clone())))
    }

    fn lost<'a>(&'a self, _: &'a RunningHive) -> BoxFuture<'a, ()> {
        Box::pin(pending())
    }

    fn stop<'a>(
        &'a self,
        _: &'a RunningHive,
        _: &'a HiveShutdownRequest,
    ) -> BoxFuture<'a, Result<(), Diagnostic>> {
        Box::pin(ready(Err(self.0.clone())))
    }

    fn starts_hive(&self) -> bool {
        false
    }
}
