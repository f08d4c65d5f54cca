//! The haiku acceptance test: checks that a real model generates text on this machine.
//!
//! The test runs the rbee binaries like a user, requests a haiku that contains the current
//! minute as a word, and checks the output and how it was produced. No product code is specific
//! to it.
//!
//! Depends on the standard library and a JSON parser only, so that it builds in seconds.

mod judge;
mod run;

pub use judge::{minute_word, prompt, text_misses};
pub use run::{Options, Report, run};
