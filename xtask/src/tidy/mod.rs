//! Checks the rules of the layout, which `ARCHITECTURE.md` states as sentences.

mod cycles;
mod documents;
mod files;
mod members;
mod purity;
mod source;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::cargo::root;

/// Violations, one line each.
type Faults = Vec<String>;

/// Checks every rule; the error lists every violation.
pub fn run() -> Result<()> {
    let members = members::load()?;
    let mut faults = Faults::new();
    members::check(&members, &mut faults)?;
    for member in &members {
        let sources = source::of_crate(&member.dir)?;
        purity::check(member, &sources, &mut faults);
        cycles::check(&member.name, &sources, &mut faults);
    }
    files::check(&mut faults)?;
    documents::check(&members, &mut faults)?;
    if faults.is_empty() {
        println!("tidy: {} members, no violation", members.len());
        return Ok(());
    }
    bail!(
        "tidy: {} violations\n  {}",
        faults.len(),
        faults.join("\n  ")
    );
}

/// The Rust files below a directory; none if it does not exist.
fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if !dir.exists() {
        return Ok(files);
    }
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The Rust files of all members.
fn all_rust_files() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for directory in ["crates", "bin", "test-harness", "xtask"] {
        files.extend(rust_files(&root().join(directory))?);
    }
    Ok(files)
}

/// A path relative to the workspace.
fn show(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}
