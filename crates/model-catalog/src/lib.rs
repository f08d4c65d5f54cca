//! Locates the files of a model on this machine: [`ModelCatalog::resolve`] turns a
//! [`ModelRef`](input_validation::ModelRef) into a path that a worker opens. Calls block on
//! disk I/O.
//!
//! # Adding a model source
//!
//! A downloader, for example from Hugging Face, is added in this crate, as a module like
//! `builtin`: it stores complete files in a subdirectory of the catalog's directory and returns
//! a [`ResolvedModel`]. [`ModelCatalog::resolve`] calls it for a new variant of `ModelRef`, and
//! [`ModelCatalog::list`] adds the models that are already stored. Workers only see the path.

mod builtin;
mod catalog;
mod errors;
mod local;
mod resolved;

pub use catalog::ModelCatalog;
pub use resolved::ResolvedModel;
