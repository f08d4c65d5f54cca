use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{
    cargo::{cargo, metadata},
    setup,
    tally::Tally,
    tidy,
};

/// The feature of which the dependencies cannot be compiled without the compiler of CUDA.
const NEEDS_NVCC: &str = "cuda";

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
    let features = features(&metadata()?);
    let commands: [(&str, &[&str]); 3] = [
        ("formatting", &["fmt", "--check"]),
        (
            "clippy",
            &[
                "clippy",
                "--quiet",
                "--workspace",
                "--all-targets",
                "--features",
                &features,
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
                "--features",
                &features,
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

/// Every feature of the workspace that can be compiled on any machine: `crate/feature,...`.
fn features(metadata: &Value) -> String {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let named = packages.flat_map(|package| {
        let features = package["features"].as_object();
        let names = features.into_iter().flat_map(serde_json::Map::keys);
        let others = names.filter(|name| *name != NEEDS_NVCC);
        others.filter_map(|name| Some(format!("{}/{name}", package["name"].as_str()?)))
    });
    named.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_but_that_for_gpus_is_compiled() {
        let features = features(&metadata().unwrap());
        let names: Vec<&str> = features.split(',').collect();
        assert!(names.contains(&"worker-contract/client"), "{features}");
        assert!(names.contains(&"guided-fuzzing/guided"), "{features}");
        assert!(!features.contains("cuda"), "{features}");
    }
}
