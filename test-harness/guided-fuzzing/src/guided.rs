//! Runs libFuzzer on the target named by `RBEE_FUZZ_TARGET`. `cargo xtask fuzz` builds and runs
//! this binary.
#![no_main]
#![allow(clippy::panic, reason = "a command line tool for development")]

use std::sync::LazyLock;

use guided_fuzzing::FuzzTarget;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<FuzzTarget> = LazyLock::new(|| {
    let name = std::env::var("RBEE_FUZZ_TARGET").unwrap_or_default();
    FuzzTarget::named(&name)
        .unwrap_or_else(|| panic!("unknown target in RBEE_FUZZ_TARGET: {name:?}"))
});

fuzz_target!(|bytes: &[u8]| TARGET.check(bytes));
