use std::{path::Path, process::Command};

use anyhow::Result;
use clap::Args;

use crate::{
    cargo::{cargo, root, succeed, target_dir},
    sanitize, setup,
    tally::Tally,
};

/// Compiler flags that report to libFuzzer which code an input reaches and what it compares.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Options of `cargo xtask fuzz`, passed to the fuzzer; `--help` lists them.
#[derive(Args)]
pub struct FuzzArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<String>,
}

/// Runs the checks of untrusted input under libFuzzer and the address sanitizer. With a fixed
/// number of runs, two invocations on one machine use the same inputs. `bin_dir` has the program
/// that starts the fuzzers, if it is built already.
pub fn run(args: &FuzzArgs, bin_dir: Option<&Path>) -> Result<Tally> {
    if !sanitize::is_supported() {
        return Ok(sanitize::skipped());
    }
    setup::need_program("c++", "g++")?;
    let directory = target_dir()?.join("guided");
    let mut build = cargo();
    build
        .args(["build", "--package", "guided-fuzzing", "--bin", "guided"])
        .args(["--features", "guided", "--target", sanitize::TARGET])
        .env("CARGO_TARGET_DIR", &directory)
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "RUSTFLAGS",
            format!("-Zsanitizer=address {}", COVERAGE.join(" ")),
        );
    succeed(&mut build)?;
    let program = directory.join(sanitize::TARGET).join("debug/guided");
    let mut fuzz = if let Some(bin_dir) = bin_dir {
        let mut run = Command::new(bin_dir.join("guided-fuzzing"));
        run.current_dir(root());
        run
    } else {
        let mut run = cargo();
        run.args(["run", "--quiet", "--package", "guided-fuzzing"])
            .args(["--bin", "guided-fuzzing", "--"]);
        run
    };
    fuzz.arg("--program")
        .arg(program)
        .arg("--folder")
        .arg(target_dir()?.join("fuzz"))
        .args(&args.rest);
    Tally::of(&mut fuzz)
}
