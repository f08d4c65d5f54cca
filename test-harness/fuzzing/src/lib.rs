//! Generates damaged inputs for the tests of parsers of untrusted input.
//!
//! A [`Corpus`] contains small valid files. [`Corpus::damaged`] applies the damage of a faulty
//! disk, a faulty converter or an attacker: flipped bits, extreme numbers, and parts removed,
//! repeated, inserted or copied from another file. [`Corpus::changed_json`] changes values within
//! valid JSON documents. The tests run for a few seconds with every `cargo test`;
//! `PROPTEST_CASES=1000000 cargo test -p CRATE --test fuzz` runs them longer.

mod config;
mod corpus;
mod json;

pub use config::cases;
pub use corpus::Corpus;
