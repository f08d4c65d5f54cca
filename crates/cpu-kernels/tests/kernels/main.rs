#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]
//! Compares every kernel on every instruction set with the plain kernel and with its definition.
//! Each pair is a test of its own; instruction sets that this processor lacks are ignored.

mod attention;
mod elementwise;
mod products;
mod random;

use std::process::ExitCode;

use cpu_kernels::Isa;
use libtest_mimic::{Arguments, Failed, Trial};

type Test = fn(Isa);

const TESTS: [(&str, Test); 14] = [
    ("exp_is_accurate", elementwise::exp_is_accurate),
    ("exp_handles_extremes", elementwise::exp_handles_extremes),
    ("gated_is_accurate", elementwise::gated_is_accurate),
    ("softcap_is_accurate", elementwise::softcap_is_accurate),
    ("norms_are_accurate", elementwise::norms_are_accurate),
    ("add_is_exact", elementwise::add_is_exact),
    ("rotation_is_accurate", elementwise::rotation_is_accurate),
    ("attention_is_accurate", attention::attention_is_accurate),
    (
        "attention_ignores_batch_chunks_and_threads",
        attention::attention_ignores_batch_chunks_and_threads,
    ),
    (
        "long_attention_is_accurate",
        attention::long_attention_is_accurate,
    ),
    ("products_are_accurate", products::products_are_accurate),
    (
        "products_of_untrusted_values_match_plain",
        products::products_of_untrusted_values_match_plain,
    ),
    (
        "products_of_extremes_are_exact",
        products::products_of_extremes_are_exact,
    ),
    (
        "products_ignore_batch_threads_and_other_matrices",
        products::products_ignore_batch_threads_and_other_matrices,
    ),
];

fn main() -> ExitCode {
    let trials = TESTS
        .iter()
        .flat_map(|&(name, test)| Isa::ALL.map(|isa| trial(name, test, isa)))
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: &str, test: Test, isa: Isa) -> Trial {
    let run = move || {
        // Reached only with `--ignored` and `--include-ignored`.
        if !isa.is_available() {
            return Err(Failed::from(format!("this processor lacks {isa:?}")));
        }
        test(isa);
        Ok(())
    };
    Trial::test(format!("{name}::{isa:?}"), run).with_ignored_flag(!isa.is_available())
}
