//! Whatever a client sends: an error that names the field, or a request for a worker.
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

use checks::{Endpoint, WORDS, check};
use fuzzing::Corpus;
use proptest::{prelude::*, strategy::Union};

fn corpus(endpoint: Endpoint) -> Corpus {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    Corpus::read(&folder.join(endpoint.name()), WORDS).unwrap()
}

/// Bodies for every endpoint, each made from its corpus.
fn bodies<S: Strategy + 'static>(
    made: impl Fn(Corpus) -> S,
) -> impl Strategy<Value = (Endpoint, S::Value)> {
    Union::new(Endpoint::ALL.map(|endpoint| {
        let made = made(corpus(endpoint));
        made.prop_map(move |body| (endpoint, body)).boxed()
    }))
}

#[test]
fn the_corpora_are_understood() {
    for endpoint in Endpoint::ALL {
        for file in corpus(endpoint).files() {
            let body = serde_json::from_slice(file).unwrap();
            let read = endpoint.read(&body);
            // A body that asks to unload is refused as it stands.
            let understood = read.iter().any(Result::is_ok) || body["keep_alive"] == 0;
            assert!(understood, "{endpoint:?}: {body}");
        }
    }
}

proptest! {
    #![proptest_config(fuzzing::cases(3000))]

    #[test]
    fn damaged_bodies_are_refused_or_understood(
        (endpoint, body) in bodies(|corpus| corpus.damaged()),
    ) {
        if let Ok(body) = serde_json::from_slice(&body) {
            check(endpoint, &body);
        }
    }

    #[test]
    fn changed_bodies_are_refused_or_understood(
        (endpoint, body) in bodies(|corpus| corpus.changed_json()),
    ) {
        check(endpoint, &body);
    }
}
