//! Writes the catalog of packages of workers from the directory `packages/`, and signs it.
//!
//! Each package is a directory with a PKGBUILD, its local files, and `package.toml`, which says
//! what the recipe does not. A recipe can have parameters, `@NAME@`, that nobody knows before a
//! release: without their values, a package is left out.

mod crates;
mod key;
mod parameters;
mod source;
mod write;

pub use key::{new_key, read_key, to_file};
pub use parameters::Parameters;
pub use source::{LeftOut, Source, read};
pub use write::{write, write_index};
