use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    cargo::{build_binaries, cargo, root, succeed},
    setup,
    tally::Tally,
};

/// Release of Debian whose C library is older than what this release of rbee needs.
const OLDER: &str = "bullseye";
/// Added to the end of a root directory that is complete.
const COMPLETE: &str = "complete";

/// Adds machines with systems of their own to a queen: the system of this machine, and one with
/// an older C library. Their root directories stay in the target directory. Needs root.
pub fn run() -> Result<Tally> {
    ensure!(
        setup::is_root(),
        "root directories are made by root only: run this as root"
    );
    for (program, package) in [
        ("debootstrap", "debootstrap"),
        ("unshare", "util-linux"),
        ("ip", "iproute2"),
        ("readelf", "binutils"),
        ("systemctl", "systemd"),
    ] {
        setup::need_program(program, package)?;
    }
    let roots = root().join("target/outside/platforms");
    fs::create_dir_all(&roots)?;
    make(&roots.join("own"), &own_release()?)?;
    make(&roots.join("older"), OLDER)?;
    let bin_dir = build_binaries(false)?;
    Tally::of(
        cargo()
            .args(["test", "--quiet", "--package", "network", "--test", "bdd"])
            .args(["--", "--tags", "@platforms"])
            .env("RBEE_BIN_DIR", bin_dir)
            .env("RBEE_PLATFORMS", roots),
    )
}

/// Makes a root directory of Debian with an SSH server and an ordinary user.
fn make(directory: &Path, release: &str) -> Result<()> {
    let complete = directory.join(COMPLETE);
    if fs::read_to_string(&complete).is_ok_and(|found| found == release) {
        return Ok(());
    }
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    println!("making a root directory of Debian {release}");
    succeed(
        Command::new("debootstrap")
            .args(["--variant=minbase", "--include=openssh-server", release])
            .arg(directory)
            .arg(mirror()),
    )?;
    // An account without a password is locked, unless the password is one that nothing matches.
    let user = [
        "useradd",
        "--create-home",
        "--password",
        "*",
        "--shell",
        "/bin/sh",
        "me",
    ];
    succeed(Command::new("chroot").arg(directory).args(user))?;
    fs::write(complete, release)?;
    Ok(())
}

/// Code name of this machine's release of Debian.
fn own_release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("this is no Debian")?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    match (value("ID=").as_deref(), value("VERSION_CODENAME=")) {
        (Some("debian"), Some(release)) => Ok(release),
        _ => bail!("the system of this machine is not Debian, so debootstrap cannot make it"),
    }
}

/// The mirror that apt uses for this machine's release.
fn mirror() -> String {
    let files = [
        PathBuf::from("/etc/apt/sources.list.d/debian.sources"),
        PathBuf::from("/etc/apt/sources.list"),
    ];
    let texts = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    let words: Vec<String> = texts
        .flat_map(|text| {
            let lines = text
                .lines()
                .filter(|line| !line.trim_start().starts_with('#'));
            let words = lines.flat_map(str::split_whitespace).map(str::to_owned);
            words.collect::<Vec<_>>()
        })
        .collect();
    let found = words
        .iter()
        .find(|word| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian"));
    found
        .map_or("http://deb.debian.org/debian", String::as_str)
        .to_owned()
}
