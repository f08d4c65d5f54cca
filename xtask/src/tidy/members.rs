use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::Value;

use super::{Faults, show};
use crate::cargo::{metadata, root};

/// A member of the workspace and what its manifest declares.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    layer: Option<u64>,
    side: String,
    pub(super) is_pure: bool,
    pub(super) dependencies: Vec<String>,
    features: Vec<String>,
}

impl Member {
    pub(super) fn is_contract(&self) -> bool {
        self.name.ends_with("-contract")
    }
}

pub(super) fn load() -> Result<Vec<Member>> {
    let metadata = metadata()?;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    Ok(packages
        .iter()
        .map(|p| {
            let rbee = &p["metadata"]["rbee"];
            let dependencies = p["dependencies"].as_array().cloned().unwrap_or_default();
            let features = p["metadata"]["bdd"]["features"].as_array().cloned();
            Member {
                name: text(&p["name"]),
                dir: Path::new(&text(&p["manifest_path"]))
                    .parent()
                    .unwrap_or(root())
                    .to_owned(),
                layer: rbee["layer"].as_u64(),
                side: text(&rbee["side"]),
                is_pure: rbee["pure"].as_bool().unwrap_or(false),
                // The rules concern the product; tests may depend on anything.
                dependencies: dependencies
                    .iter()
                    .filter(|d| d["kind"].is_null() && !d["optional"].as_bool().unwrap_or(false))
                    .map(|d| text(&d["name"]))
                    .collect(),
                features: features.unwrap_or_default().iter().map(text).collect(),
            }
        })
        .collect())
}

pub(super) fn check(members: &[Member], faults: &mut Faults) -> Result<()> {
    layers(members, faults);
    manifests(members, faults)?;
    documented(members, faults)?;
    features(members, faults)
}

/// Dependencies have a lower layer and belong to the same side, or are shared.
fn layers(members: &[Member], faults: &mut Faults) {
    let by_name: BTreeMap<&str, &Member> = members.iter().map(|m| (m.name.as_str(), m)).collect();
    for member in members {
        let Some(layer) = member.layer else {
            faults.push(format!("{}: no `layer` in its metadata", member.name));
            continue;
        };
        for name in &member.dependencies {
            let Some(used) = by_name.get(name.as_str()) else {
                continue;
            };
            if used.layer.is_none_or(|l| l >= layer) {
                faults.push(format!(
                    "{} (layer {layer}) uses {name}, which is not in a lower layer",
                    member.name
                ));
            }
            let other_side = used.side != "shared" && used.side != member.side;
            if other_side && member.side != "tests" {
                faults.push(format!(
                    "{} ({}) uses {name} ({}): sides share contract crates only",
                    member.name, member.side, used.side
                ));
            }
        }
    }
}

/// Every crate inherits the workspace's lints.
fn manifests(members: &[Member], faults: &mut Faults) -> Result<()> {
    for member in members {
        let manifest = fs::read_to_string(member.dir.join("Cargo.toml"))?;
        if !manifest.contains("[lints]\nworkspace = true") {
            faults.push(format!("{}: does not inherit the lints", member.name));
        }
    }
    Ok(())
}

/// Crates that every side uses document all their public items.
fn documented(members: &[Member], faults: &mut Faults) -> Result<()> {
    for member in members.iter().filter(|member| member.side == "shared") {
        let root = fs::read_to_string(member.dir.join("src/lib.rs"))?;
        if !root.contains("#![warn(missing_docs)]") {
            faults.push(format!("{}: no `#![warn(missing_docs)]`", member.name));
        }
    }
    Ok(())
}

/// Every feature file belongs to exactly one crate and is finished.
fn features(members: &[Member], faults: &mut Faults) -> Result<()> {
    let mut owners: BTreeMap<String, usize> = BTreeMap::new();
    for entry in fs::read_dir(root().join("features"))? {
        let path = entry?.path();
        let Some(stem) = path.file_stem().and_then(|s| s.to_str()) else {
            continue;
        };
        owners.insert(stem.to_owned(), 0);
        let text = fs::read_to_string(&path)?;
        if text.contains("@wip") {
            faults.push(format!("{}: @wip", show(&path)));
        }
    }
    for feature in members.iter().flat_map(|m| &m.features) {
        match owners.get_mut(feature) {
            Some(count) => *count += 1,
            None => faults.push(format!("features/{feature}.feature is missing")),
        }
    }
    for (feature, count) in owners {
        if count != 1 {
            faults.push(format!("features/{feature}.feature has {count} owners"));
        }
    }
    Ok(())
}
