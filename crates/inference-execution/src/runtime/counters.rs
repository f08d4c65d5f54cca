use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use diagnostics::{Code, Diagnostic};

/// Totals since the runtime started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuntimeCounts {
    pub completed: u64,
    /// Requests that were cancelled or whose reader disconnected.
    pub cancelled: u64,
    /// Requests whose deadline passed.
    pub expired: u64,
    /// Requests that ended with another error.
    pub failed: u64,
    pub generated_tokens: u64,
    /// Prompt tokens of accepted requests.
    pub prompt_tokens: u64,
    /// Prompt tokens that the prefix cache provided.
    pub cached_tokens: u64,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestEnd {
    Completed,
    Cancelled,
    Expired,
    Failed,
}

impl From<&Diagnostic> for RequestEnd {
    fn from(error: &Diagnostic) -> Self {
        match error.code {
            Code::Cancelled => Self::Cancelled,
            Code::DeadlineExceeded => Self::Expired,
            _ => Self::Failed,
        }
    }
}

#[derive(Debug, Default)]
pub struct Counters {
    completed: AtomicU64,
    cancelled: AtomicU64,
    expired: AtomicU64,
    failed: AtomicU64,
    generated_tokens: AtomicU64,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
}

impl Counters {
    pub fn request_ended(&self, end: RequestEnd) {
        let counter = match end {
            RequestEnd::Completed => &self.completed,
            RequestEnd::Cancelled => &self.cancelled,
            RequestEnd::Expired => &self.expired,
            RequestEnd::Failed => &self.failed,
        };
        counter.fetch_add(1, SeqCst);
    }

    pub fn token_generated(&self) {
        self.generated_tokens.fetch_add(1, SeqCst);
    }

    pub fn add_prompt_tokens(&self, count: u32) {
        self.prompt_tokens.fetch_add(u64::from(count), SeqCst);
    }

    pub fn add_cached_tokens(&self, count: u32) {
        self.cached_tokens.fetch_add(u64::from(count), SeqCst);
    }

    pub fn snapshot(&self) -> RuntimeCounts {
        RuntimeCounts {
            completed: self.completed.load(SeqCst),
            cancelled: self.cancelled.load(SeqCst),
            expired: self.expired.load(SeqCst),
            failed: self.failed.load(SeqCst),
            generated_tokens: self.generated_tokens.load(SeqCst),
            prompt_tokens: self.prompt_tokens.load(SeqCst),
            cached_tokens: self.cached_tokens.load(SeqCst),
        }
    }
}
