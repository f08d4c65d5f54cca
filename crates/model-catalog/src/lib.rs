//! The models of a machine.
//!
//! - [`ModelCatalog`] knows which models are on disk: [`ModelCatalog::resolve`] turns a
//!   [`ModelRef`](input_validation::ModelRef) into a path that a worker opens. Its calls block on
//!   disk I/O.
//! - [`Puller`] fetches models as jobs and adds them to the catalog: from other nodes, through the
//!   queen ([`Copies`]), or from their vendors.
//!
//! # On disk
//!
//! A fetched model has a directory of its own ([`ModelDir`](state_files::ModelDir)) with its
//! files and, once they are complete and verified, a record. The database holds the same and
//! what the records do not have: aliases, pinned revisions, times of use. When it is damaged it
//! is rebuilt from the records.

mod adopt;
mod builtin;
mod care;
mod catalog;
mod database;
mod errors;
mod facts;
mod fingerprint;
mod hash;
mod local;
mod needs;
mod pull;
mod pull_files;
mod puller;
mod rebuild;
mod resolved;
mod share;
mod sources;
#[cfg(test)]
mod testing;
mod turns;

pub use care::InUse;
pub use catalog::ModelCatalog;
pub use puller::Puller;
pub use resolved::ResolvedModel;
pub use sources::{Copies, Fetch};
