//! Text output about packages of a catalog, as pure functions.

use diagnostics::escape;
use hive_contract::{CatalogPackage, PackageDetails, PackageList};

use super::{table::table, text::escape_for_terminal};

/// Formats the result of `rbee-keeper worker-binary catalog`.
pub(crate) fn list(list: &PackageList) -> String {
    let rows = list.packages.iter().map(|package| {
        [
            package.id.to_string(),
            package.version.to_string(),
            package.worker_type.to_string(),
            state(package),
            escape(&package.description),
        ]
    });
    let headings = ["PACKAGE", "VERSION", "TYPE", "STATE", "DESCRIPTION"];
    table(headings, rows, "the catalog has no packages")
}

fn state(package: &CatalogPackage) -> String {
    let state = match (&package.installation, package.approved) {
        (Some(_), _) if package.outdated => "outdated",
        (Some(_), _) => "installed",
        (None, _) if !package.for_this_machine => "for other machines",
        (None, true) => "approved",
        (None, false) => "available",
    };
    state.to_owned()
}

/// Formats the result of `rbee-keeper worker-binary catalog PACKAGE`.
pub(crate) fn details(details: &PackageDetails) -> String {
    let package = &details.package;
    let installation = package.installation.as_ref();
    let facts = [
        ("description", package.description.clone()),
        ("type", package.worker_type.to_string()),
        ("packaging", package.packaging.clone()),
        ("engine", package.engine.clone().unwrap_or_default()),
        ("machines", package.machines.join(", ")),
        ("formats", package.formats.join(", ")),
        ("models", package.architectures.join(", ")),
        ("tensors", package.tensor_types.join(", ")),
        ("backends", package.backends.join(", ")),
        ("features", package.features.join(", ")),
        ("state", state(package)),
        (
            "installed",
            installation.map_or(String::new(), ToString::to_string),
        ),
        ("PKGBUILD", format!("SHA-256 {}", package.pkgbuild_sha256)),
    ];
    let facts = facts.iter().filter(|(_, value)| !value.is_empty());
    let lines = facts.map(|(name, value)| format!("  {name:<11}  {}\n", escape(value)));
    let files = details
        .files
        .iter()
        .map(|(name, sha256)| format!("  {:<11}  SHA-256 {}\n", escape(name), escape(sha256)));
    let lines: String = lines.chain(files).collect();
    format!(
        "{} {}\n{lines}\n{}",
        package.id,
        package.version,
        escape_for_terminal(&details.pkgbuild)
    )
}
