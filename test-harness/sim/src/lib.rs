//! Simulated services of the internet, with faults: file servers, a model hub, Ollama's
//! registry, servers that speak the protocols of other engines.

mod blob;
pub mod engine;
mod faults;
pub mod files;
mod http;
pub mod hub;
pub mod ollama;

pub use blob::Blob;
pub use faults::FaultsFile;
pub use http::{Received, ServerRole};
