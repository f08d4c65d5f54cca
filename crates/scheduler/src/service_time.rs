use std::time::Duration;

/// How long requests of a model run: the moving average of those that completed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ServiceTime {
    pub(crate) average: Duration,
    pub(crate) completed: u32,
}

impl ServiceTime {
    pub(crate) fn add(&mut self, took: Duration) {
        self.average = match self.completed {
            0 => took,
            _ => (self.average * 7 + took) / 8,
        };
        self.completed = self.completed.saturating_add(1);
    }
}
