//! The files under `RBEE_HOME` that more than one rbee process reads or writes.
//!
//! State on disk is a contract between processes and between releases. Names, formats, readers
//! and writers therefore live in this crate and nowhere else; `cargo xtask tidy` rejects the
//! file names in any other crate.
//!
//! - [`Home`] has one method per shared file.
//! - [`DaemonRecord`], [`JoinRecord`], [`SpawnRecord`], [`ModelRecord`], [`BinaryRecord`] and
//!   [`BuildRecord`] are the records, each with one reader and one writer.
//!
//! # Record format
//!
//! A record is a JSON object. Its member `format` is a number; an object without it has
//! format 1. Since format 2 the member `checksum` holds a digest of all other members.
//!
//! | on disk | reader | writer |
//! |---|---|---|
//! | current or older format, intact | [`Stored::Intact`] | overwrites it |
//! | not a record, or a wrong checksum | [`Stored::Damaged`] | overwrites it |
//! | newer format | `STATE_TOO_NEW` | `STATE_TOO_NEW` |
//!
//! To change a record incompatibly, increase its `FORMAT` and convert older objects in its
//! `Deserialize` implementation. Additional optional members need no new format.

#![warn(missing_docs)]

mod binary_dirs;
mod daemon_record;
mod errors;
mod home;
mod join_record;
mod model_dir;
mod record;
mod spawn_record;
mod worker_dirs;

pub use binary_dirs::{BinaryDir, BinaryDirs, BinaryRecord, BuildRecord, StagingDir};
pub use daemon_record::{DaemonRecord, home_in_use};
pub use home::{FILE_NAMES, Home};
pub use join_record::JoinRecord;
pub use model_dir::{ModelDir, ModelDirs, ModelFile, ModelRecord};
pub use record::Stored;
pub use spawn_record::SpawnRecord;
pub use worker_dirs::{WorkerDir, WorkerDirs};
