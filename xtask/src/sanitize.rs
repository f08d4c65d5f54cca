use anyhow::Result;

use crate::{
    cargo::{cargo, target_dir},
    tally::Tally,
};

/// What the sanitizer can be built for.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The tests of the kernels under the address sanitizer, which sees every access out of bounds,
/// behind a free and to memory that is never freed, in all instructions that this processor has.
///
/// The flag belongs to nightly toolchains; `RUSTC_BOOTSTRAP` lets the pinned one take it, for
/// these crates only, in a folder of their own.
pub fn run() -> Result<Tally> {
    if !possible() {
        return Ok(not_here());
    }
    let mut tests = cargo();
    tests
        .args(["test", "--package", "cpu-kernels", "--lib", "--tests"])
        // Named, so that build scripts and macros are compiled without the flag.
        .args(["--target", TARGET])
        .env("CARGO_TARGET_DIR", target_dir()?.join("sanitizer"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address");
    Tally::of(&mut tests)
}

/// Whether programs that the sanitizer is built into run here.
pub fn possible() -> bool {
    cfg!(all(
        target_arch = "x86_64",
        target_os = "linux",
        target_env = "gnu"
    ))
}

/// The result where they do not.
pub fn not_here() -> Tally {
    println!("the address sanitizer is only used on {TARGET}");
    Tally {
        skipped: 1,
        ..Tally::default()
    }
}
