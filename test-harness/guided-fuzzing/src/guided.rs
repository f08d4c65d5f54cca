//! libFuzzer with the check that `RBEE_FUZZ_TARGET` names. `cargo xtask fuzz` builds and runs it.
#![no_main]
#![allow(clippy::panic, reason = "a command line program of the project's own")]

use std::sync::LazyLock;

use guided_fuzzing::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("RBEE_FUZZ_TARGET").unwrap_or_default();
    let named = Target::ALL.into_iter().find(|target| target.name() == name);
    named.unwrap_or_else(|| panic!("RBEE_FUZZ_TARGET is {name:?}"))
});

fuzz_target!(|bytes: &[u8]| TARGET.check(bytes));
