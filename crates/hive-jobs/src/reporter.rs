use std::{fmt, sync::Arc};

use diagnostics::Narration;
use hive_contract::{JobEvent, Progress};

/// Sends the events of an operation. Clones send to the same receiver.
#[derive(Clone)]
pub struct Reporter(Arc<dyn Fn(JobEvent) + Send + Sync>);

impl Reporter {
    /// Sends every event to `sink`, which must not block.
    pub fn new(sink: impl Fn(JobEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Drops every event.
    pub fn discard() -> Self {
        Self::new(drop)
    }

    /// Sends an event.
    pub fn send(&self, event: JobEvent) {
        (self.0)(event);
    }

    /// Narrates as the hive.
    pub fn info(&self, action: &str, message: impl Into<String>) {
        self.send(JobEvent::Narration(Narration::info(
            "hive", action, message,
        )));
    }

    /// Narrates as the hive something that is not as planned, but does not end the operation.
    pub fn warn(&self, action: &str, message: impl Into<String>) {
        self.send(JobEvent::Narration(Narration::warn(
            "hive", action, message,
        )));
    }

    /// Reports how far the operation is.
    pub fn progress(&self, progress: Progress) {
        self.send(JobEvent::Progress(progress));
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reporter")
    }
}
