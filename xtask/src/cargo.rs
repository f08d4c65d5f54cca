use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The root directory of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// Cargo itself, in the root directory.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // Variables that `cargo run` sets for this process must not reach the builds it starts.
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
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

/// Builds the binaries; returns their directory.
pub fn build_binaries(release: bool) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--bins"]);
    for program in [
        "worker-rbee",
        "adapter-worker-rbee",
        "rbee-hive",
        "queen-rbee",
        "rbee-keeper",
    ] {
        build.args(["--package", program]);
    }
    if release {
        build.arg("--release");
    } else {
        // The services that tests use instead of those of the internet.
        build.args(["--package", "sim"]);
    }
    succeed(&mut build)?;
    Ok(target_dir()?.join(if release { "release" } else { "debug" }))
}

/// Cargo's target directory.
pub fn target_dir() -> Result<PathBuf> {
    let metadata = metadata()?;
    let dir = metadata["target_directory"].as_str();
    Ok(PathBuf::from(
        dir.context("cargo reports no target directory")?,
    ))
}

/// Cargo's metadata of the workspace's members.
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
