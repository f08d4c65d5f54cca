//! Transfers from a simulated server with faults.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod disk;
mod faults;
mod ranges;
mod redirects;
mod resume;
mod support;
