//! The crates that a build of this workspace needs, as sources of a recipe: a recipe is built
//! without network. `Cargo.lock` has their SHA-256.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// Elements of `source` and of `sha256sums` for all crates that `root` needs, each one a line. The
/// variable `_crates` of the recipe is the URL of the registry.
pub(crate) fn sources(lock: &str, root: &str) -> Result<(String, String)> {
    let lock: Lock = toml::from_str(lock)?;
    let mut by_name: BTreeMap<&str, Vec<&Locked>> = BTreeMap::new();
    for package in &lock.package {
        by_name.entry(&package.name).or_default().push(package);
    }
    let mut todo = vec![root];
    let mut seen = BTreeSet::new();
    let (mut names, mut sums) = (Vec::new(), Vec::new());
    while let Some(dependency) = todo.pop() {
        if !seen.insert(dependency) {
            continue;
        }
        let mut words = dependency.split(' ');
        let known = words.next().and_then(|name| by_name.get(name));
        let version = words.next();
        let package = known
            .into_iter()
            .flatten()
            .find(|package| version.is_none_or(|version| version == package.version))
            .with_context(|| format!("Cargo.lock has no {dependency}"))?;
        todo.extend(package.dependencies.iter().map(String::as_str));
        if let Some(checksum) = &package.checksum {
            let (name, version) = (&package.name, &package.version);
            names.push(format!("  \"$_crates/{name}/{name}-{version}.crate\""));
            sums.push(format!("  {checksum}"));
        }
    }
    ensure!(!names.is_empty(), "{root} needs no crates");
    Ok((names.join("\n"), sums.join("\n")))
}
