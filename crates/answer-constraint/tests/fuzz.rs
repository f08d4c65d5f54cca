//! Damaged constraints are rejected as request errors, or outputs satisfy them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod checks;

use std::path::Path;

use checks::{WORDS, sampling::compile};
use fuzzing::Corpus;
use proptest::prelude::*;

fn corpus() -> Corpus {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    Corpus::read(&directory, WORDS).unwrap()
}

#[test]
fn corpus_is_valid() {
    for file in corpus().files() {
        compile(&serde_json::from_slice(file).unwrap()).unwrap();
        checks::constraint(file);
    }
}

proptest! {
    #![proptest_config(fuzzing::cases(1500))]

    #[test]
    fn damaged_constraints_are_rejected_or_followed(document in corpus().damaged()) {
        checks::constraint(&document);
    }

    #[test]
    fn constraints_with_changed_values_are_rejected_or_followed(document in corpus().changed_json()) {
        checks::constraint(document.to_string().as_bytes());
    }
}
