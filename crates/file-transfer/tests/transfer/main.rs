//! Transfers from a simulated server with faults.

mod disk;
mod faults;
mod ranges;
mod redirects;
mod resume;
mod support;
