//! How a package of the catalog is described to users.

use hive_contract::CatalogPackage;
use input_validation::BinaryVersion;
use serde::Serialize;
use worker_catalog::{Package, Runs, Support};

/// What a machine has of a package.
pub(crate) struct OnMachine {
    pub(crate) approved: bool,
    pub(crate) installation: Option<BinaryVersion>,
    pub(crate) outdated: bool,
}

/// Describes a package.
pub(crate) fn of(package: &Package, pkgbuild_sha256: String, machine: OnMachine) -> CatalogPackage {
    let runs = package.runs.as_ref();
    let names = |of: fn(&Runs) -> Vec<String>| runs.map(of).unwrap_or_default();
    CatalogPackage {
        id: package.id.clone(),
        version: package.version.clone(),
        description: package.description.clone(),
        worker_type: package.worker_type.clone(),
        packaging: wire_name(&package.packaging),
        engine: package.engine.as_ref().map(|engine| engine.name.clone()),
        machines: package.machines.clone(),
        for_this_machine: package.is_for(std::env::consts::ARCH),
        formats: names(|runs| runs.formats.iter().map(wire_name).collect()),
        architectures: names(|runs| supported(&runs.architectures)),
        tensor_types: names(|runs| supported(&runs.tensor_types)),
        backends: names(|runs| runs.backends.iter().map(wire_name).collect()),
        features: names(|runs| runs.features.iter().map(wire_name).collect()),
        pkgbuild_sha256,
        approved: machine.approved,
        installation: machine.installation,
        outdated: machine.outdated,
    }
}

fn supported(names: &Support) -> Vec<String> {
    match names {
        Support::Any => vec!["any".to_owned()],
        Support::Only(names) => names.iter().cloned().collect(),
    }
}

/// Name of a value as in JSON.
fn wire_name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}
