//! The engines of a machine.
//!
//! - [`EngineCatalog`] knows them: the one of rbee, those that its user describes in files
//!   ([`EngineFile`] is their format), and those that were installed from packages.
//! - [`Engine::launch`] says how a worker starts one: with which arguments of the adapter, and in
//!   which environment.
//!
//! What runs a model is chosen by `engine-choice`, over [`MachineEngines::for_choice`].

#![warn(missing_docs)]

mod catalog;
mod engine;
mod errors;
mod file;
mod launch;

pub use catalog::{EngineCatalog, MachineEngines, Offer};
pub use engine::{Engine, Run};
pub use file::EngineFile;
pub use launch::{Launch, PartLaunch};
