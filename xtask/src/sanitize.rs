use anyhow::Result;

use crate::{
    cargo::{cargo, target_dir},
    tally::Tally,
};

/// Target for which the sanitizer is available.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Runs the tests of the kernels under the address sanitizer, which reports out-of-bounds
/// accesses, uses after free and leaks, with every instruction set of this processor.
///
/// The flag is available in nightly toolchains; `RUSTC_BOOTSTRAP` makes the pinned toolchain
/// accept it, for these crates only, in a target directory of their own.
pub fn run() -> Result<Tally> {
    if !is_supported() {
        return Ok(skipped());
    }
    let mut tests = cargo();
    tests
        .args(["test", "--package", "cpu-kernels", "--lib", "--tests"])
        // An explicit target, so that build scripts and macros are compiled without the flag.
        .args(["--target", TARGET])
        .env("CARGO_TARGET_DIR", target_dir()?.join("sanitizer"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address");
    Tally::of(&mut tests)
}

/// Returns whether this machine can run sanitized binaries.
pub fn is_supported() -> bool {
    cfg!(all(
        target_arch = "x86_64",
        target_os = "linux",
        target_env = "gnu"
    ))
}

/// The result on a machine that cannot.
pub fn skipped() -> Tally {
    println!("skipped: the address sanitizer requires {TARGET}");
    Tally {
        skipped: 1,
        ..Tally::default()
    }
}
