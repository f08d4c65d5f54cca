use std::time::Duration;

/// What a build may use at most. A build that uses more is stopped.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Processes and threads.
    pub processes: u64,
    /// Memory of all its processes together, in bytes.
    pub memory: u64,
    /// Space of its work folder, and size of a single file, in bytes.
    pub disk: u64,
    /// Number of files in its work folder.
    pub files: u64,
    /// Size of its log, in bytes.
    pub log: u64,
    /// Duration of one step.
    pub step: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes: 4096,
            memory: 16 << 30,
            disk: 64 << 30,
            files: 1_000_000,
            log: 64 << 20,
            step: Duration::from_secs(2 * 60 * 60),
        }
    }
}
