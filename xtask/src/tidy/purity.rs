//! Contract crates and pure crates have no IO, no clock and no randomness. Only binaries read
//! the command line and the environment.

use super::{
    Faults,
    members::Member,
    show,
    source::{Module, Modules, Segments},
};

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
/// Modules that a pure crate may not use.
const IMPURE_MODULES: [&str; 6] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "std::io",
];
/// Functions that read a clock.
const CLOCKS: [&str; 3] = ["Instant::now", "SystemTime::now", "Timestamp::now"];
/// Functions that read the command line or the environment.
const COMMAND_LINE: [&str; 6] = [
    "std::env::args",
    "std::env::args_os",
    "std::env::var",
    "std::env::var_os",
    "std::env::vars",
    "std::env::vars_os",
];

pub(super) fn check(member: &Member, targets: &[Modules], faults: &mut Faults) {
    let pure = member.is_pure || member.is_contract();
    if pure {
        for name in &member.dependencies {
            if IMPURE_CRATES.contains(&name.as_str()) {
                faults.push(format!("{} is pure and uses {name}", member.name));
            }
        }
    }
    let in_crates = show(&member.dir).starts_with("crates/");
    for (path, module) in targets.iter().flatten() {
        // A contract's client is behind a feature.
        let is_client = member.is_contract() && path.last().is_some_and(|name| name == "client");
        let file = show(&module.file);
        for used in full_paths(module) {
            if pure && !is_client && is_impure(&used) {
                faults.push(format!("{file}: {used} in a pure crate"));
            }
            if in_crates && starts_with_any(&used, &COMMAND_LINE) {
                faults.push(format!("{file}: {used} outside a binary"));
            }
        }
    }
}

/// All paths that a module uses, with imported names replaced by what they stand for.
fn full_paths(module: &Module) -> impl Iterator<Item = String> {
    let imported = module.uses.iter().map(|(_, path)| path.clone());
    let used = module.paths.iter().map(|path| expand(path, module));
    imported.chain(used).map(|path| path.join("::"))
}

fn expand(path: &Segments, module: &Module) -> Segments {
    let import = module.uses.iter().find(|(name, _)| *name == path[0]);
    match import {
        Some((_, full)) => [full, &path[1..]].concat(),
        None => path.clone(),
    }
}

fn is_impure(path: &str) -> bool {
    // Formatting and error types of std::io are plain data.
    let plain_io = ["std::io::Error", "std::io::ErrorKind", "std::io::Result"];
    (starts_with_any(path, &IMPURE_MODULES) && !starts_with_any(path, &plain_io))
        || CLOCKS
            .iter()
            .any(|clock| path == *clock || path.ends_with(&format!("::{clock}")))
}

fn starts_with_any(path: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    })
}

#[cfg(test)]
mod tests {
    use super::{super::source::tests::modules, *};

    fn impure(text: &str) -> Vec<String> {
        let modules = modules(&[("lib.rs", text)]);
        full_paths(&modules[&vec![]])
            .filter(|path| is_impure(path))
            .collect()
    }

    #[test]
    fn impure_code_is_found_however_it_is_imported() {
        assert_eq!(impure("use std::{fs, fmt};"), ["std::fs"]);
        assert_eq!(
            impure("use std::{fs as files}; fn f() { files::read(1); }"),
            ["std::fs", "std::fs::read"]
        );
        assert_eq!(
            impure("#[cfg(test)] mod tests {} fn f() { std::env::var(1); }"),
            ["std::env::var"]
        );
        assert_eq!(
            impure("use std::time::Instant; fn f() { assert!(Instant::now() > t); }"),
            ["std::time::Instant::now"]
        );
        assert_eq!(
            impure("fn f() { jiff::Timestamp::now(); }"),
            ["jiff::Timestamp::now"]
        );
        assert_eq!(
            impure("use std::{time::Duration, io::ErrorKind};"),
            [] as [&str; 0]
        );
    }
}
