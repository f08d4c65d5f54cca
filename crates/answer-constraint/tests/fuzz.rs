//! Whatever a constraint says: an error that blames the client, or answers that keep to it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod checks;

use std::path::Path;

use checks::{WORDS, saying::begin};
use fuzzing::Corpus;
use proptest::prelude::*;

fn corpus() -> Corpus {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    Corpus::read(&folder, WORDS).unwrap()
}

#[test]
fn the_corpus_is_followed() {
    for file in corpus().files() {
        begin(&serde_json::from_slice(file).unwrap()).unwrap();
        checks::constraint(file);
    }
}

proptest! {
    #![proptest_config(fuzzing::cases(1500))]

    #[test]
    fn damaged_constraints_are_refused_or_followed(document in corpus().damaged()) {
        checks::constraint(&document);
    }

    #[test]
    fn changed_constraints_are_refused_or_followed(document in corpus().changed_json()) {
        checks::constraint(document.to_string().as_bytes());
    }
}
