//! Damaged outputs of models are split into text and calls without losing anything.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod checks;

use std::path::Path;

use checks::WORDS;
use fuzzing::Corpus;
use proptest::prelude::*;

fn corpus() -> Corpus {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    Corpus::read(&directory, WORDS).unwrap()
}

#[test]
fn corpus_is_valid() {
    for file in corpus().files() {
        checks::output(file);
        assert_eq!(checks::calls(std::str::from_utf8(file).unwrap()).len(), 1);
    }
}

proptest! {
    #![proptest_config(fuzzing::cases(3000))]

    #[test]
    fn damaged_outputs_are_split_without_losing_anything(document in corpus().damaged()) {
        checks::output(&document);
    }
}
