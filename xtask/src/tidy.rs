//! The rules of the layout, each checked. `ARCHITECTURE.md` tells them as sentences.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::cargo::{metadata, root};

/// Longest that a source file may be.
const MOST_LINES: usize = 700;
/// Crates that a pure crate may not use.
const IMPURE_CRATES: [&str; 8] = [
    "tokio",
    "axum",
    "reqwest",
    "rusqlite",
    "rand",
    "getrandom",
    "sysinfo",
    "rest-client",
];
/// What a pure crate may not mention: IO, clocks, randomness.
const IMPURE_WORDS: [&str; 8] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
];
/// Modules that may hold `unsafe`: processor instructions, threads that share a slice, and a
/// mapped file.
const UNSAFE_MODULES: [&str; 10] = [
    "crates/cpu-kernels/src/lanes.rs",
    "crates/cpu-kernels/src/memory.rs",
    "crates/cpu-kernels/src/pool.rs",
    "crates/cpu-kernels/src/product.rs",
    "crates/cpu-kernels/src/simd/amx.rs",
    "crates/cpu-kernels/src/simd/avx2.rs",
    "crates/cpu-kernels/src/simd/avx512.rs",
    "crates/cpu-kernels/src/simd/neon.rs",
    "crates/cpu-kernels/src/threads.rs",
    "crates/engine-candle/src/mapping.rs",
];

/// A member of the workspace and what its manifest says of it.
struct Member {
    name: String,
    dir: PathBuf,
    layer: Option<u64>,
    side: String,
    pure_core: bool,
    dependencies: Vec<String>,
    features: Vec<String>,
}

/// Checks every rule; the error lists every violation.
pub fn run() -> Result<()> {
    let members = members()?;
    let mut faults = Vec::new();
    layers(&members, &mut faults);
    pure_cores(&members, &mut faults)?;
    manifests(&members, &mut faults)?;
    features(&members, &mut faults)?;
    sources(&mut faults)?;
    state_files(&mut faults)?;
    programs(&mut faults)?;
    documents(&mut faults)?;
    invariants(&mut faults)?;
    if faults.is_empty() {
        println!("tidy: {} members, no fault", members.len());
        return Ok(());
    }
    bail!("tidy: {} faults\n  {}", faults.len(), faults.join("\n  "));
}

fn members() -> Result<Vec<Member>> {
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
                pure_core: rbee["pure"].as_bool().unwrap_or(false),
                // Tests may reach anywhere; the arrows are those of the product.
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

/// Arrows go to a lower layer, and never from one side to another.
fn layers(members: &[Member], faults: &mut Vec<String>) {
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
                    "{} (layer {layer}) uses {name}, which is not below it",
                    member.name
                ));
            }
            let foreign = used.side != "shared" && used.side != member.side;
            if foreign && member.side != "tests" {
                faults.push(format!(
                    "{} ({}) uses {name} ({}): sides meet in the contracts only",
                    member.name, member.side, used.side
                ));
            }
        }
    }
}

/// Contract crates and pure crates: no IO, no clock, no randomness.
fn pure_cores(members: &[Member], faults: &mut Vec<String>) -> Result<()> {
    for member in members {
        let contract = member.name.ends_with("-contract");
        if !member.pure_core && !contract {
            continue;
        }
        for name in &member.dependencies {
            if IMPURE_CRATES.contains(&name.as_str()) {
                faults.push(format!("{} is pure and uses {name}", member.name));
            }
        }
        for file in rust_files(&member.dir.join("src"))? {
            // A contract's client is behind a feature.
            if file.ends_with("client.rs") {
                continue;
            }
            let text = fs::read_to_string(&file)?;
            let product = text.split("#[cfg(test)]").next().unwrap_or("");
            for word in IMPURE_WORDS {
                if product.contains(word) {
                    faults.push(format!("{}: {word} in a pure crate", show(&file)));
                }
            }
        }
    }
    Ok(())
}

/// Every crate inherits the workspace's lints.
fn manifests(members: &[Member], faults: &mut Vec<String>) -> Result<()> {
    for member in members {
        let manifest = fs::read_to_string(member.dir.join("Cargo.toml"))?;
        if !manifest.contains("[lints]\nworkspace = true") {
            faults.push(format!("{}: does not inherit the lints", member.name));
        }
    }
    Ok(())
}

/// Every feature file belongs to exactly one crate; nothing is unfinished.
fn features(members: &[Member], faults: &mut Vec<String>) -> Result<()> {
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

/// Files one can read in one go, without paths of a machine, switched-off tests, or `unsafe`
/// outside named modules.
fn sources(faults: &mut Vec<String>) -> Result<()> {
    // Spelled in pieces, so that this file does not find itself.
    let machine_paths = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat()];
    let switched_off = ["#[", "ignore"].concat();
    let lets_unsafe = ["allow(", "unsafe_code"].concat();
    for folder in ["crates", "bin", "test-harness", "xtask"] {
        for file in rust_files(&root().join(folder))? {
            let text = fs::read_to_string(&file)?;
            let lines = text.lines().count();
            if lines > MOST_LINES {
                faults.push(format!(
                    "{}: {lines} lines, more than {MOST_LINES}",
                    show(&file)
                ));
            }
            if machine_paths.iter().any(|p| text.contains(p)) {
                faults.push(format!("{}: a path of a machine", show(&file)));
            }
            if text.contains(&switched_off) {
                faults.push(format!("{}: a test is switched off", show(&file)));
            }
            let named = UNSAFE_MODULES.contains(&show(&file).as_str());
            if text.contains(&lets_unsafe) && !named {
                faults.push(format!("{}: unsafe outside a named module", show(&file)));
            }
        }
    }
    Ok(())
}

/// Names of shared state files, and of their directories, stand in crates/state-files only.
/// Comments may name a file.
fn state_files(faults: &mut Vec<String>) -> Result<()> {
    let mut forbidden: Vec<String> = ["run", "keys", "logs"]
        .map(|directory| format!("\"{directory}/"))
        .to_vec();
    for name in state_files::FILE_NAMES {
        // As in a path or a text; `queen.lock()` is a call.
        forbidden.extend(["\"", "/", "`"].map(|before| format!("{before}{name}")));
    }
    for folder in ["crates", "bin", "test-harness", "xtask"] {
        for file in rust_files(&root().join(folder))? {
            if show(&file).starts_with("crates/state-files/") {
                continue;
            }
            let text = fs::read_to_string(&file)?;
            for (number, line) in (1..).zip(text.lines()) {
                if line.trim_start().starts_with("//") {
                    continue;
                }
                if let Some(name) = forbidden.iter().find(|name| line.contains(*name)) {
                    faults.push(format!(
                        "{}:{number}: {}: shared files are named in crates/state-files only",
                        show(&file),
                        name.trim_start_matches(['"', '/', '`'])
                    ));
                }
            }
        }
    }
    Ok(())
}

/// A program's main file is wiring; only programs read the command line.
fn programs(faults: &mut Vec<String>) -> Result<()> {
    for file in rust_files(&root().join("bin"))? {
        let is_main =
            file.ends_with("src/main.rs") || file.parent().is_some_and(|p| p.ends_with("src/bin"));
        let lines = fs::read_to_string(&file)?.lines().count();
        if is_main && lines >= 60 {
            faults.push(format!("{}: {lines} lines, 60 or more", show(&file)));
        }
    }
    for file in rust_files(&root().join("crates"))? {
        let text = fs::read_to_string(&file)?;
        let product = text.split("#[cfg(test)]").next().unwrap_or("");
        let in_product = file.components().any(|c| c.as_os_str() == "src");
        for word in ["env::args", "env::var(", "env::var_os("] {
            if in_product && product.contains(word) {
                faults.push(format!("{}: {word} outside a program", show(&file)));
            }
        }
    }
    Ok(())
}

/// Five documents at the root at the most, one a program.
fn documents(faults: &mut Vec<String>) -> Result<()> {
    let documents = |dir: &Path| -> Result<usize> {
        Ok(fs::read_dir(dir)?
            .flatten()
            .filter(|e| e.path().extension().is_some_and(|x| x == "md"))
            .count())
    };
    let count = documents(root())?;
    if count > 5 {
        faults.push(format!("{count} documents at the root, more than 5"));
    }
    for entry in fs::read_dir(root().join("bin"))?.flatten() {
        if documents(&entry.path())? > 1 {
            faults.push(format!("{}: more than one document", show(&entry.path())));
        }
    }
    Ok(())
}

/// Every test that ARCHITECTURE.md names exists: `a_test_function`, or "A scenario".
fn invariants(faults: &mut Vec<String>) -> Result<()> {
    let document = fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    let (_, section) = document.split_once("## Invariants").unwrap_or_default();
    let section = section.replace("\n  ", " ");
    let mut code = String::new();
    for folder in ["crates", "bin", "test-harness", "xtask"] {
        for file in rust_files(&root().join(folder))? {
            code.push_str(&fs::read_to_string(file)?);
        }
    }
    let mut scenarios = String::new();
    for entry in fs::read_dir(root().join("features"))? {
        scenarios.push_str(&fs::read_to_string(entry?.path())?);
    }
    for name in section.split('`').skip(1).step_by(2) {
        let is_function = name.contains('_') && !name.contains(['/', '.', ' ']);
        if is_function && !code.contains(&format!("fn {name}(")) {
            faults.push(format!("ARCHITECTURE.md: no test `{name}`"));
        }
    }
    for name in section.split('"').skip(1).step_by(2) {
        if !scenarios.contains(&format!(": {name}")) {
            faults.push(format!("ARCHITECTURE.md: no scenario \"{name}\""));
        }
    }
    Ok(())
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if !dir.exists() {
        return Ok(files);
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

fn show(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}
