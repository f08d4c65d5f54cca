//! A SQLite database on disk that one process uses.
//!
//! All calls block. A file written by a newer rbee is refused and left unchanged
//! ([`Code::StateTooNew`]), an older one is backed up and migrated, a damaged one is refused
//! with its path ([`Code::StateUnusable`]).
//!
//! [`Code::StateTooNew`]: diagnostics::Code::StateTooNew
//! [`Code::StateUnusable`]: diagnostics::Code::StateUnusable

#![warn(missing_docs)]

mod database;
mod errors;

pub use database::{Database, parsed};
