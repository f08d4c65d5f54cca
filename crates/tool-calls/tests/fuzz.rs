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
use serde_json::{Map, Value};
use tool_calls::{Part, ToolFormat};

fn corpus() -> Corpus {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    Corpus::read(&directory, WORDS).unwrap()
}

/// Returns the arguments of the complete calls in a document of the corpus.
fn calls(document: &str) -> Vec<Map<String, Value>> {
    let (name, output) = document.split_once('\n').unwrap();
    let format = ToolFormat::ALL.iter().find(|format| format.name == name);
    let parts = checks::parts(format.unwrap(), &mut std::iter::once(output));
    let arguments = parts.iter().filter_map(|part| match part {
        Part::Arguments(text) => Some(serde_json::from_str(text).unwrap()),
        _ => None,
    });
    arguments.collect()
}

#[test]
fn corpus_is_valid() {
    for file in corpus().files() {
        checks::output(file);
        assert_eq!(calls(std::str::from_utf8(file).unwrap()).len(), 1);
    }
}

proptest! {
    #![proptest_config(fuzzing::cases(3000))]

    #[test]
    fn damaged_outputs_are_split_without_losing_anything(document in corpus().damaged()) {
        checks::output(&document);
    }
}
