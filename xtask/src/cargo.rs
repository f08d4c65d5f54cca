use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// The workspace's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// Cargo itself, in the workspace's folder.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What `cargo run` sets for this program must not reach the builds that it starts.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(name);
    }
    command
}

/// Runs a command; an exit code other than 0 is an error.
pub fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// Builds the programs; returns their folder.
pub fn build_programs(release: bool) -> Result<PathBuf> {
    succeed(&mut build_command(release))?;
    Ok(target_dir()?.join(if release { "release" } else { "debug" }))
}

fn build_command(release: bool) -> Command {
    let mut build = cargo();
    build.args(["build", "--bins"]);
    for program in ["worker-rbee", "rbee-hive", "queen-rbee", "rbee-keeper"] {
        build.args(["--package", program]);
    }
    if release {
        build.arg("--release");
    }
    build
}

/// The library of a crate as it is in the programs, which are built.
pub fn library(name: &str) -> Result<PathBuf> {
    let output = build_command(false)
        .args(["--quiet", "--message-format", "json"])
        .output()
        .context("cannot run cargo build")?;
    ensure!(output.status.success(), "the programs do not build");
    for line in output.stdout.split(|byte| *byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        let files = message["filenames"].as_array().into_iter().flatten();
        let library = files
            .filter_map(|file| file.as_str().map(Path::new))
            .find(|file| file.extension().is_some_and(|e| e == "rlib"));
        if message["target"]["name"] == name
            && let Some(library) = library
        {
            return Ok(library.into());
        }
    }
    bail!("the programs have no library {name}")
}

/// Where cargo puts what it builds.
pub fn target_dir() -> Result<PathBuf> {
    let metadata = metadata()?;
    let dir = metadata["target_directory"].as_str();
    Ok(PathBuf::from(dir.context("cargo names no target folder")?))
}

/// What cargo says of the workspace's members.
pub fn metadata() -> Result<Value> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}
