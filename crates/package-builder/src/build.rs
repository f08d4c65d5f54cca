use diagnostics::Diagnostic;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::{
    BuildEvent, BuildRequest, Phase, Settings,
    errors::{self, Exceeded},
    log::Log,
    sandbox::{self, Access},
    supervise::{self, Ended, Watch},
    work_folder::WorkFolder,
};

/// Name of the recipe's file.
pub(crate) const PKGBUILD: &str = "PKGBUILD";
/// One build, on a thread of its own.
pub(crate) struct Build<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) request: &'a BuildRequest,
    pub(crate) listener: &'a (dyn Fn(BuildEvent) + Send + Sync),
    pub(crate) cancel: &'a CancellationToken,
    pub(crate) runtime: &'a Handle,
}

impl Build<'_> {
    /// Begins a phase.
    pub(crate) fn begin(&self, phase: Phase, log: &mut Log<'_>) -> Result<(), Diagnostic> {
        self.check_cancelled()?;
        log.section();
        log.event(BuildEvent::Phase(phase));
        Ok(())
    }

    pub(crate) fn check_cancelled(&self) -> Result<(), Diagnostic> {
        if self.cancel.is_cancelled() {
            return Err(errors::cancelled());
        }
        Ok(())
    }

    /// Runs a program in the sandbox. Returns its standard output if `captures`.
    pub(crate) fn run(
        &self,
        phase: Phase,
        work: &WorkFolder,
        access: &Access,
        program: &[&str],
        captures: bool,
        log: &mut Log<'_>,
    ) -> Result<Vec<u8>, Diagnostic> {
        self.check_cancelled()?;
        log.section();
        let command = sandbox::command(self.settings, work.path(), access, program);
        let watch = Watch {
            limits: &self.settings.limits,
            folder: work.path(),
            cancel: self.cancel,
        };
        let (ended, output) = supervise::run(command, captures, &watch, log)?;
        match ended {
            Ended::Exited(status) if status.success() => Ok(output),
            Ended::Exited(status) => Err(self.failed(phase, &status.to_string(), log)),
            Ended::Cancelled => Err(errors::cancelled()),
            Ended::Exceeded(limit) => Err(self.exceeded(phase, limit)),
        }
    }

    pub(crate) fn failed(&self, phase: Phase, what: &str, log: &Log<'_>) -> Diagnostic {
        errors::failed(phase, what, &log.failure(), &self.request.log)
    }

    pub(crate) fn exceeded(&self, phase: Phase, limit: Exceeded) -> Diagnostic {
        errors::exceeded(phase, limit, &self.settings.limits, &self.request.log)
    }
}
