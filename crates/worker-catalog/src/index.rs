use std::{collections::BTreeSet, fmt};

use diagnostics::{Diagnostic, escape};
use input_validation::PackageId;
use serde::{Deserialize, Serialize};

use crate::{Package, errors};

/// Version of the format of the index.
pub const FORMAT: u32 = 1;
/// Maximum size of the index.
pub const MAX_INDEX_BYTES: u64 = 4 << 20;
/// Maximum number of packages.
const MAX_PACKAGES: usize = 1000;

/// The index of a catalog: all its packages, and the digest of each of their files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Version of the format: [`FORMAT`].
    pub format: u32,
    /// Number that increases with every release of the catalog.
    pub sequence: u64,
    /// Its packages.
    pub packages: Vec<Package>,
}

/// What every version of the format has.
#[derive(Deserialize)]
struct Envelope {
    format: u32,
}

impl Index {
    /// Parses an index. `place` is for errors.
    ///
    /// Errors: `CATALOG_UNTRUSTED` with the position; `VERSION_INCOMPATIBLE` for another format.
    pub fn parse(place: &str, content: &[u8]) -> Result<Self, Diagnostic> {
        let invalid = |cause: &dyn fmt::Display| errors::index_invalid(place, cause);
        let envelope: Envelope = serde_json::from_slice(content).map_err(|e| invalid(&e))?;
        if envelope.format != FORMAT {
            return Err(errors::index_format(place, envelope.format, FORMAT));
        }
        let index: Self = serde_json::from_slice(content).map_err(|e| invalid(&e))?;
        if index.packages.len() > MAX_PACKAGES {
            return Err(invalid(&format_args!(
                "it has {} packages",
                index.packages.len()
            )));
        }
        let mut ids = BTreeSet::new();
        for package in &index.packages {
            if !ids.insert(&package.id) {
                return Err(invalid(&format_args!("{} occurs twice", package.id)));
            }
            package
                .check()
                .map_err(|cause| invalid(&format_args!("{}: {}", package.id, escape(&cause))))?;
        }
        Ok(index)
    }

    /// Returns a package.
    ///
    /// Errors: `NOT_FOUND` with the ids that exist.
    pub fn package(&self, id: &PackageId) -> Result<&Package, Diagnostic> {
        let found = self.packages.iter().find(|package| package.id == *id);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.packages.iter().map(|p| p.id.as_str()).collect();
            errors::no_package(id, &known)
        })
    }
}
