use anyhow::Result;
use clap::Args;

use crate::{
    cargo::{cargo, succeed, target_dir},
    sanitize, setup,
    tally::Tally,
};

/// What tells libFuzzer which code an input reaches, and what it compared.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Options of `cargo xtask fuzz`: those of its program, which `--help` shows.
#[derive(Args)]
pub struct FuzzArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<String>,
}

/// The checks of foreign bytes under libFuzzer and the address sanitizer. With a number of
/// runs two of them on one machine see the same inputs.
pub fn run(args: &FuzzArgs) -> Result<Tally> {
    if !sanitize::possible() {
        return Ok(sanitize::not_here());
    }
    setup::need_program("c++", "g++")?;
    let folder = target_dir()?.join("guided");
    let mut build = cargo();
    build
        .args(["build", "--package", "guided-fuzzing", "--bin", "guided"])
        .args(["--features", "guided", "--target", sanitize::TARGET])
        .env("CARGO_TARGET_DIR", &folder)
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "RUSTFLAGS",
            format!("-Zsanitizer=address {}", COVERAGE.join(" ")),
        );
    succeed(&mut build)?;
    let program = folder.join(sanitize::TARGET).join("debug/guided");
    let mut fuzz = cargo();
    fuzz.args(["run", "--quiet", "--package", "guided-fuzzing"])
        .args(["--bin", "guided-fuzzing", "--", "--program"])
        .arg(program)
        .arg("--folder")
        .arg(target_dir()?.join("fuzz"))
        .args(&args.rest);
    Tally::of(&mut fuzz)
}
