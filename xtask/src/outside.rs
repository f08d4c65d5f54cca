use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cargo::{cargo, root, succeed, target_dir},
    setup,
    tally::Tally,
};

/// Compares chat templates and vocabularies with those of other programs. What it downloads stays
/// in the target directory.
pub fn run() -> Result<()> {
    let python = setup::python_with_packages()?;
    let models = download(&python, "templates")?;
    let package = ["build", "--quiet", "--package", "outside-comparison"];
    succeed(cargo().args(package))?;
    let program = target_dir()?.join("debug/outside-comparison");
    succeed(
        Command::new(&python)
            .arg("-B")
            .arg(directory().join("compare.py"))
            .args([program, models]),
    )
}

/// Chats with a real model through all binaries.
pub fn real_model(bin_dir: &Path) -> Result<Tally> {
    let python = setup::python_with_packages()?;
    let model = download(&python, "model")?;
    Tally::of(
        Command::new(&python)
            .arg("-B")
            .arg(directory().join("real_model.py"))
            .arg(model)
            .env("RBEE_BIN_DIR", bin_dir),
    )
}

fn directory() -> PathBuf {
    root().join("test-harness/outside")
}

/// Returns the path of what `download.py` has downloaded.
pub fn download(python: &Path, what: &str) -> Result<PathBuf> {
    let output = Command::new(python)
        .arg("-B")
        .arg(directory().join("download.py"))
        .arg(what)
        .arg(root().join("target/outside"))
        .output()
        .context("cannot run download.py")?;
    ensure!(
        output.status.success(),
        "the download fails: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let path = String::from_utf8(output.stdout)?;
    Ok(PathBuf::from(path.trim()))
}
