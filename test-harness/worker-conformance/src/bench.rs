use crate::{
    endpoint::Endpoint,
    launch::{Launcher, Running},
    verdict::{Checked, not_applicable},
};

/// What the cases work with.
pub struct Bench {
    pub endpoint: Endpoint,
    /// Absent if the worker runs already.
    pub started: Option<Started>,
}

/// The workers that the test started.
pub struct Started {
    pub launcher: Launcher,
    /// Serves the requests of the test.
    pub worker: Running,
    /// Receives no request.
    pub idle: Running,
}

impl Bench {
    /// Returns what was started. Cases that use it need [`Needs::Command`].
    pub fn started(&mut self) -> Checked<&mut Started> {
        let missing = || not_applicable("the worker was not started by this test");
        self.started.as_mut().ok_or_else(missing)
    }
}
