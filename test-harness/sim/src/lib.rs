//! Simulated services of the internet, with faults: file servers, a model hub, Ollama's
//! registry.

pub mod files;
