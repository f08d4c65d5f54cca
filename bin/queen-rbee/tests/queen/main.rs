//! The complete queen in this process, called over HTTP, with fake workers and a fake hive.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod choices;
mod control;
mod dialects;
mod error_formats;
mod fake_hive;
mod fake_worker;
mod harness;
mod listening;
mod metrics;
mod openai;
mod relay;
mod request_ids;
mod responses;
mod short_calls;
mod spawning;
mod ssh_nodes;
mod vision;
mod waiting;
mod wrong_urls;
