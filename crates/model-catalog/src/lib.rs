//! Where a model's files are on this machine: a [`ModelRef`](input_validation::ModelRef)
//! becomes a path that a worker can open. Calls block on the disk.

mod builtin;
mod catalog;

pub use catalog::{ModelCatalog, ResolvedModel};
