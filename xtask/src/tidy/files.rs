//! Rules for single files.

use std::fs;

use anyhow::Result;

use super::{Faults, all_rust_files, rust_files, show};
use crate::cargo::root;

/// Maximum number of lines of a source file.
const MAX_LINES: usize = 700;
/// Maximum number of lines of a binary's main file.
const MAX_MAIN_LINES: usize = 59;
/// Modules that may contain `unsafe`: processor instructions, threads that share a slice, and
/// a mapped file.
const UNSAFE_MODULES: [&str; 10] = [
    "crates/cpu-kernels/src/amx.rs",
    "crates/cpu-kernels/src/lanes.rs",
    "crates/cpu-kernels/src/memory.rs",
    "crates/cpu-kernels/src/pool.rs",
    "crates/cpu-kernels/src/product/kernel.rs",
    "crates/cpu-kernels/src/simd/avx2.rs",
    "crates/cpu-kernels/src/simd/avx512.rs",
    "crates/cpu-kernels/src/simd/neon.rs",
    "crates/cpu-kernels/src/threads.rs",
    "crates/engine-candle/src/mapping.rs",
];

pub(super) fn check(faults: &mut Faults) -> Result<()> {
    sources(faults)?;
    state_files(faults)?;
    main_files(faults)
}

/// Files that can be read in one go, without paths of a machine, disabled tests, or `unsafe`
/// outside named modules.
fn sources(faults: &mut Faults) -> Result<()> {
    // Assembled, so that this file does not contain them.
    let machine_paths = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat()];
    let disabled = ["#[", "ignore"].concat();
    let allows_unsafe = ["allow(", "unsafe_code"].concat();
    for file in all_rust_files()? {
        let text = fs::read_to_string(&file)?;
        let lines = text.lines().count();
        if lines > MAX_LINES {
            faults.push(format!(
                "{}: {lines} lines, more than {MAX_LINES}",
                show(&file)
            ));
        }
        if machine_paths.iter().any(|p| text.contains(p)) {
            faults.push(format!("{}: a path of a machine", show(&file)));
        }
        if text.contains(&disabled) {
            faults.push(format!("{}: a disabled test", show(&file)));
        }
        let named = UNSAFE_MODULES.contains(&show(&file).as_str());
        if text.contains(&allows_unsafe) && !named {
            faults.push(format!("{}: unsafe outside a named module", show(&file)));
        }
    }
    Ok(())
}

/// Names of shared state files and of their directories occur in crates/state-files only,
/// and in comments.
fn state_files(faults: &mut Faults) -> Result<()> {
    let mut forbidden: Vec<String> = ["run", "keys", "logs"]
        .map(|directory| format!("\"{directory}/"))
        .to_vec();
    for name in state_files::FILE_NAMES {
        // As in a path or a text; `queen.lock()` is a call.
        forbidden.extend(["\"", "/", "`"].map(|before| format!("{before}{name}")));
    }
    for file in all_rust_files()? {
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
    Ok(())
}

/// A binary's main file is short.
fn main_files(faults: &mut Faults) -> Result<()> {
    for file in rust_files(&root().join("bin"))? {
        let is_main =
            file.ends_with("src/main.rs") || file.parent().is_some_and(|p| p.ends_with("src/bin"));
        let lines = fs::read_to_string(&file)?.lines().count();
        if is_main && lines > MAX_MAIN_LINES {
            faults.push(format!(
                "{}: {lines} lines, more than {MAX_MAIN_LINES}",
                show(&file)
            ));
        }
    }
    Ok(())
}
