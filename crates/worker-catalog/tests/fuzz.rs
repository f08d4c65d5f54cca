//! Damaged indexes are refused with a proper error, or describe packages that can be used.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod checks;

use std::path::Path;

use fuzzing::Corpus;
use proptest::prelude::*;
use worker_catalog::Index;

fn corpus() -> Corpus {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    Corpus::read(&directory, checks::WORDS).unwrap()
}

#[test]
fn the_corpus_is_valid() {
    for file in corpus().files() {
        Index::parse("of a test", file).unwrap();
    }
}

proptest! {
    #![proptest_config(fuzzing::cases(4000))]

    #[test]
    fn damaged_indexes_are_refused_or_valid(file in corpus().damaged()) {
        checks::index(&file);
    }

    #[test]
    fn changed_indexes_are_refused_or_valid(index in corpus().changed_json()) {
        checks::index(&serde_json::to_vec(&index).unwrap());
    }
}
