//! Real clients from their registries, pinned, against the real binaries.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    cargo::{build_binaries, root, succeed},
    setup,
    tally::Tally,
};

/// Scripts with clients in Python.
const PYTHON_CLIENTS: [&str; 5] = [
    "openai_responses",
    "litellm_client",
    "pydantic_ai_client",
    "instructor_client",
    "langchain_suite",
];

/// Runs every client, and prints a table of the results.
pub fn run() -> Result<Tally> {
    let bin_dir = build_binaries(false)?;
    let python = python()?;
    let mut rows = vec![("node".to_owned(), quick(&bin_dir, &python)?)];
    for script in PYTHON_CLIENTS {
        let tally = Tally::of(&mut client(&python, &bin_dir, script))?;
        rows.push((script.to_owned(), tally));
    }
    println!("\n{:<20} passed  failed  not applicable", "client");
    let mut total = Tally::default();
    for (name, tally) in rows {
        println!(
            "{name:<20} {:>6}  {:>6}  {:>14}",
            tally.passed, tally.failed, tally.skipped
        );
        total += tally;
    }
    Ok(total)
}

/// Runs the clients in JavaScript, which take seconds. Skips them if Node.js is missing.
pub fn quick(bin_dir: &Path, python: &Path) -> Result<Tally> {
    if let Some(missing) = ["node", "npm"].iter().find(|p| !setup::on_path(p)) {
        println!("client node ... skipped: `{missing}` is missing");
        return Ok(Tally {
            skipped: 1,
            ..Tally::default()
        });
    }
    let mut node = client(python, bin_dir, "node");
    Tally::of(node.arg(node_packages()?))
}

fn scripts() -> PathBuf {
    root().join("test-harness/outside/clients")
}

fn client(python: &Path, bin_dir: &Path, script: &str) -> Command {
    let mut command = Command::new(python);
    command
        .arg(scripts().join(script).with_extension("py"))
        .env("RBEE_BIN_DIR", bin_dir)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Returns a directory with the scripts in JavaScript and their packages.
fn node_packages() -> Result<PathBuf> {
    let dir = root().join("target/outside/node");
    fs::create_dir_all(&dir)?;
    for entry in fs::read_dir(scripts().join("node"))? {
        let entry = entry?;
        fs::copy(entry.path(), dir.join(entry.file_name()))
            .with_context(|| format!("cannot copy {}", entry.path().display()))?;
    }
    let lock = dir.join("package-lock.json");
    let installed = dir.join("node_modules/installed.json");
    if !same_content(&lock, &installed) {
        println!("installing packages into target/outside/node");
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--loglevel", "error"]);
        succeed(npm.current_dir(&dir))?;
        fs::copy(&lock, &installed)?;
    }
    Ok(dir)
}

/// Returns a Python with the packages of `requirements.txt`, in `target/outside/python`.
fn python() -> Result<PathBuf> {
    let venv = root().join("target/outside/python");
    let python = venv.join("bin/python");
    let requirements = scripts().join("requirements.txt");
    let installed = venv.join("installed.txt");
    if !same_content(&requirements, &installed) {
        setup::need_program("python3", "python3")?;
        setup::create_venv(&venv)?;
        println!("installing packages into target/outside/python");
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps"])
            .args(["--disable-pip-version-check", "--requirement"]);
        succeed(pip.arg(&requirements))?;
        fs::copy(&requirements, &installed)?;
    }
    Ok(python)
}

fn same_content(a: &Path, b: &Path) -> bool {
    matches!((fs::read(a), fs::read(b)), (Ok(a), Ok(b)) if a == b)
}
