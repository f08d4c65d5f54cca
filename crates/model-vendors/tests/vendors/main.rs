//! Vendors against simulated servers with the real protocols.
#![allow(clippy::unwrap_used, clippy::panic)]

mod hostile;
mod hub;
mod ollama;
mod support;
