//! The worker binaries of a machine.
//!
//! - [`BinaryCatalog`] knows which are installed and which one new workers run:
//!   [`BinaryCatalog::lease`] returns it. Its calls block on disk I/O.
//! - [`Provisioner`] obtains binaries as jobs: it builds or downloads them, verifies them by running
//!   them, and adds them to the catalog.
//!
//! # On disk
//!
//! Each installed version has a directory of its own
//! ([`BinaryDir`](state_files::BinaryDir)) with its files and a record. It appears there complete
//! and verified, or not at all, and its files never change: workers that run from an older version
//! keep it. What is being made is in a staging directory
//! ([`StagingDir`](state_files::StagingDir)), which the next hive removes if this one dies. The
//! database holds the same as the records and which version is the current one. When it is
//! damaged, it is rebuilt from the records.
//!
//! # Adding a source
//!
//! Implement the trait `Source`: make the files of a binary in a staging directory.
//! Whatever the source is, the [`Provisioner`] verifies and installs them.

mod cargo_output;
mod catalog;
mod child;
mod cleanup;
mod database;
mod download;
mod errors;
mod fingerprint;
mod git;
mod install;
mod package;
mod package_catalog;
mod package_entry;
mod provisioner;
mod settings;
mod signature;
mod source;
mod toolchains;
mod tools;
mod verify;

pub use catalog::{BinaryCatalog, InUse, ProgramLease};
pub use provisioner::Provisioner;
pub use settings::{BuildProfile, ProvisionSettings};
pub use toolchains::{REPLACED, Surroundings, toolchains};
