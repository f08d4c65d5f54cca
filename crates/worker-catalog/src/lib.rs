//! The signed catalog of packages of workers: static files, read from a directory or any HTTP
//! server.
//!
//! ```text
//! workers/index.json            all packages, with the digest of each file
//! workers/index.json.minisig    signature of the index, in the format of minisign
//! workers/ID/index.json         the entry of a package, for people
//! workers/ID/PKGBUILD           its recipe, and its local files beside it
//! ```
//!
//! A server that returns `index.json` for a directory thus answers `/workers` and `/workers/ID`.
//!
//! The index is verified with a key that is known before, and before it is parsed. Everything else
//! is verified by the digests in the index. The newest index is remembered, and an older one is
//! refused.

#![warn(missing_docs)]

mod client;
mod errors;
mod fetch;
mod index;
mod key;
mod package;

pub use client::Catalog;
pub use engine_choice::{Feature, Format, Support};
pub use fetch::Location;
pub use index::{FORMAT, Index, MAX_INDEX_BYTES};
pub use key::CatalogKey;
pub use package::{EngineProgram, MAX_FILE_BYTES, Package, PackageFile, Packaging, RECIPE, Runs};

/// Path of the index.
pub const INDEX: &str = "workers/index.json";
/// Path of the signature of the index.
pub const SIGNATURE: &str = "workers/index.json.minisig";
