use anyhow::{Result, ensure};

use crate::{cargo::cargo, setup, tally::Tally, tidy};

/// Runs all lints; a failed one does not stop the others.
pub fn run() -> Result<()> {
    let tally = lints()?;
    ensure!(tally.failed == 0, "{} lints failed", tally.failed);
    Ok(())
}

/// Runs the lints and counts them as tests.
pub fn lints() -> Result<Tally> {
    let mut tally = Tally::default();
    setup::need_cargo_component("fmt", "rustfmt")?;
    setup::need_cargo_component("clippy", "clippy")?;
    let commands: [(&str, &[&str]); 3] = [
        ("formatting", &["fmt", "--check"]),
        (
            "clippy",
            &[
                "clippy",
                "--quiet",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--",
                "--deny",
                "warnings",
            ],
        ),
        (
            "documentation",
            // With the features of clippy, whose dependencies it uses.
            &[
                "doc",
                "--quiet",
                "--workspace",
                "--no-deps",
                "--all-features",
            ],
        ),
    ];
    for (name, args) in commands {
        let ok = cargo()
            .args(args)
            .env("RUSTDOCFLAGS", "--deny warnings")
            .status()?
            .success();
        tally += Tally::one(&format!("lint {name}"), ok);
    }
    let ok = match tidy::run() {
        Ok(()) => true,
        Err(error) => {
            println!("{error:#}");
            false
        }
    };
    tally += Tally::one("lint tidy", ok);
    Ok(tally)
}
