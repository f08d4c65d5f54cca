//! The haiku acceptance test: proof that a real model ran, here and now. It drives the real
//! programs as a user does, asks for a haiku with the word of the current minute, and judges
//! what came back. The product knows nothing of it.
//!
//! Only the standard library and a JSON parser, so that it builds in seconds.

mod judge;
mod run;

pub use judge::{minute_word, prompt, text_misses};
pub use run::{Options, Report, run};
