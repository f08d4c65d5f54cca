//! Text output about worker binaries, as pure functions.

use diagnostics::{bytes, counted, escape};
use hive_contract::{
    BinaryStatus, InstalledBinary, InstalledBinaryList, ProvisionResponse, RemovedBinaries,
};
use input_validation::{BinaryVersion, FeatureName, WorkerId};

use super::table::{table, wire_name};

/// Formats the result of `rbee-keeper worker-binary list`.
pub(crate) fn list(list: &InstalledBinaryList) -> String {
    let notices = list.notices.iter();
    let notices = notices.map(|notice| format!("note: {}\n", escape(notice)));
    let mut text = notices.collect::<Vec<_>>().concat();
    let rows = list.binaries.iter().map(|binary| {
        [
            binary.worker_type.to_string(),
            binary.installation.to_string(),
            state(binary),
            wire_name(&binary.source),
            bytes(binary.size_bytes),
        ]
    });
    let headings = ["TYPE", "VERSION", "STATE", "SOURCE", "SIZE"];
    text.push_str(&table(headings, rows, "no worker binaries"));
    text.push_str(&outdated(list));
    text
}

fn state(binary: &InstalledBinary) -> String {
    let mut state = match binary.status {
        BinaryStatus::Ready if binary.current => "current".to_owned(),
        BinaryStatus::Ready => "ready".to_owned(),
        BinaryStatus::Damaged => "damaged".to_owned(),
    };
    if !binary.compatible {
        state.push_str(", of another release");
    }
    state
}

/// Formats the result of `rbee-keeper worker-binary show`.
pub(crate) fn versions(list: &InstalledBinaryList) -> String {
    let sections = list.binaries.iter().map(|binary| {
        let features: Vec<&str> = binary.features.iter().map(FeatureName::as_str).collect();
        let facts = [
            ("version", binary.version.to_string()),
            ("state", state(binary)),
            ("source", wire_name(&binary.source)),
            ("from", binary.origin.clone()),
            ("features", features.join(", ")),
            ("path", binary.binary_path.clone()),
            ("size", bytes(binary.size_bytes)),
            ("SHA-256", binary.sha256.clone().unwrap_or_default()),
            (
                "installed",
                binary
                    .installed_at
                    .map(|time| time.to_string())
                    .unwrap_or_default(),
            ),
            ("build time", build_time(binary.build_seconds)),
            ("workers", names(&binary.workers)),
        ];
        let facts = facts.iter().filter(|(_, value)| !value.is_empty());
        let lines = facts.map(|(name, value)| format!("  {name:<10}  {}\n", escape(value)));
        let lines = lines.collect::<Vec<_>>().concat();
        format!("{} {}\n{lines}", binary.worker_type, binary.installation)
    });
    sections.collect::<Vec<_>>().join("\n")
}

fn names(workers: &[WorkerId]) -> String {
    let names: Vec<&str> = workers.iter().map(WorkerId::as_str).collect();
    names.join(", ")
}

/// Says which workers run another version of a type than new ones do, and how to replace them.
/// Empty if there are none.
pub(crate) fn outdated(list: &InstalledBinaryList) -> String {
    let others = list.binaries.iter().filter(|binary| !binary.current);
    let lines = others.flat_map(|binary| {
        binary.workers.iter().map(move |worker| {
            format!(
                "{worker} still runs {} {}; replace it with `rbee-keeper worker stop {worker} --replace`\n",
                binary.worker_type, binary.installation
            )
        })
    });
    lines.collect::<Vec<_>>().concat()
}

fn build_time(seconds: f64) -> String {
    if seconds > 0.0 {
        format!("{seconds:.1} s")
    } else {
        String::new()
    }
}

/// Formats the result of `rbee-keeper worker-binary provision`.
pub(crate) fn provisioned(result: &ProvisionResponse, versions: &InstalledBinaryList) -> String {
    let built = if result.build_time_seconds > 0.0 {
        format!(", built in {:.1} s", result.build_time_seconds)
    } else {
        String::new()
    };
    format!(
        "{} {} is ready: {}{built}\n{}",
        result.worker_type,
        result.installation,
        escape(&result.binary_path),
        outdated(versions)
    )
}

/// Formats the result of `rbee-keeper worker-binary remove`.
pub(crate) fn removed(removed: &RemovedBinaries) -> String {
    let names: Vec<&str> = removed.removed.iter().map(BinaryVersion::as_str).collect();
    format!(
        "removed {} of {}: {} ({})\n",
        counted(removed.removed.len(), "version"),
        removed.worker_type,
        names.join(", "),
        bytes(removed.freed_bytes)
    )
}

/// Formats the result of `rbee-keeper worker-binary rollback`.
pub(crate) fn selected(binary: &InstalledBinary, versions: &InstalledBinaryList) -> String {
    format!(
        "new workers run {} {}; running workers keep theirs\n{}",
        binary.worker_type,
        binary.installation,
        outdated(versions)
    )
}
