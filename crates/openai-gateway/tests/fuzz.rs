//! Any body a client may send is parsed, or refused with an error that names the field.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod checks;

use std::path::Path;

use checks::{Endpoint, WORDS, check};
use fuzzing::Corpus;
use proptest::{prelude::*, strategy::Union};

fn corpus(endpoint: Endpoint) -> Corpus {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    Corpus::read(&directory.join(endpoint.name()), WORDS).unwrap()
}

/// Bodies for every endpoint, each generated from the endpoint's corpus.
fn bodies<S: Strategy + 'static>(
    generate: impl Fn(Corpus) -> S,
) -> impl Strategy<Value = (Endpoint, S::Value)> {
    Union::new(Endpoint::ALL.map(|endpoint| {
        let bodies = generate(corpus(endpoint));
        bodies.prop_map(move |body| (endpoint, body)).boxed()
    }))
}

#[test]
fn every_corpus_body_is_parsed() {
    for endpoint in Endpoint::ALL {
        for file in corpus(endpoint).files() {
            let body = serde_json::from_slice(file).unwrap();
            let parsed = endpoint.parse(&body);
            assert!(parsed.iter().any(Result::is_ok), "{endpoint:?}: {body}");
        }
    }
}

proptest! {
    #![proptest_config(fuzzing::cases(3000))]

    #[test]
    fn damaged_bodies_are_refused_or_parsed(
        (endpoint, body) in bodies(|corpus| corpus.damaged()),
    ) {
        if let Ok(body) = serde_json::from_slice(&body) {
            check(endpoint, &body);
        }
    }

    #[test]
    fn changed_bodies_are_refused_or_parsed(
        (endpoint, body) in bodies(|corpus| corpus.changed_json()),
    ) {
        check(endpoint, &body);
    }
}
