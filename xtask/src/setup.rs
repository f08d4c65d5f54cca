use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::cargo::{cargo, root, succeed};

/// Python packages that the tests use: official clients, a tester of HTTP interfaces with the
/// library that generates its requests, and the reference of chat templates.
const PACKAGES: [&str; 6] = [
    "openai==3.52.0",
    "anthropic==2.11.0",
    "ollama==0.6.3",
    "schemathesis==4.32.5",
    "hypothesis==6.170.17",
    "jinja2==3.1.6",
];
const IMPORTS: &str = "import openai, anthropic, ollama, schemathesis, jinja2";

/// Programs with which packages are built in a sandbox, and their Debian packages.
pub const BUILD_PROGRAMS: [(&str, &str); 7] = [
    ("bwrap", "bubblewrap"),
    ("fakeroot", "fakeroot"),
    ("git", "git"),
    ("bzip2", "bzip2"),
    ("unzip", "unzip"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
];

/// Ensures that a program of a Debian package is available: installs it if permitted, else fails
/// with the command that does.
pub fn need_program(program: &str, package: &str) -> Result<()> {
    if on_path(program) {
        return Ok(());
    }
    install(package).with_context(|| format!("`{program}` is missing"))?;
    ensure!(
        on_path(program),
        "{package} is installed, but `{program}` is still missing"
    );
    Ok(())
}

/// Ensures that `cargo NAME`, a component of the toolchain, is available.
pub fn need_cargo_component(name: &str, component: &str) -> Result<()> {
    if quiet(cargo().args([name, "--version"])) {
        return Ok(());
    }
    println!("installing the toolchain component {component}");
    let install = ["component", "add", component];
    ensure!(
        quiet(Command::new("rustup").args(install).current_dir(root())),
        "`cargo {name}` is missing: run `rustup component add {component}`"
    );
    Ok(())
}

/// Returns a Python with [`PACKAGES`], in `target/python`.
pub fn python_with_packages() -> Result<PathBuf> {
    need_program("python3", "python3")?;
    let venv = root().join("target/python");
    let python = venv.join("bin/python");
    if quiet(Command::new(&python).args(["-c", IMPORTS])) {
        return Ok(python);
    }
    create_venv(&venv)?;
    println!("installing {} into target/python", PACKAGES.join(", "));
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    succeed(Command::new(&python).args(pip).args(PACKAGES))?;
    Ok(python)
}

/// Creates an empty virtual environment of Python.
pub fn create_venv(venv: &Path) -> Result<()> {
    let create = || {
        quiet(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(venv),
        )
    };
    if !create() {
        // Debian has a separate package for virtual environments.
        install("python3-venv").context("python3 cannot create a virtual environment")?;
        ensure!(create(), "`python3 -m venv {}` fails", venv.display());
    }
    Ok(())
}

/// Installs a Debian package, if this user is permitted to.
fn install(package: &str) -> Result<()> {
    let by_hand = format!("sudo apt-get install -y {package}");
    ensure!(
        on_path("apt-get"),
        "install it with this system's package manager (Debian: `{by_hand}`)"
    );
    let sudo: &[&str] = if is_root() {
        &[]
    } else if quiet(Command::new("sudo").args(["-n", "true"])) {
        &["sudo", "-n"]
    } else {
        bail!("run `{by_hand}`");
    };
    println!("installing the system package {package}");
    let apt = |args: &[&str]| {
        // Run level 1 prevents the service of a package from being started (invoke-rc.d(8)).
        let settings = [
            "env",
            "RUNLEVEL=1",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
        ];
        let words: Vec<&str> = [sudo, &settings, args].concat();
        succeed(Command::new(words[0]).args(&words[1..]))
    };
    // The package lists of a new machine are outdated or missing.
    apt(&["update", "-qq"])?;
    apt(&["install", "-y", "-qq", package])
}

/// Whether a program is in a directory for programs.
pub fn on_path(program: &str) -> bool {
    let dirs = env::var_os("PATH").unwrap_or_default();
    // Debian installs some servers outside the default path of ordinary users.
    env::split_paths(&dirs)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| dir.join(program).is_file())
}

/// Whether this process has all permissions.
pub fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|o| o.stdout.trim_ascii() == b"0")
}

fn quiet(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}
