//! Event streams with arbitrary content produce events or errors, never a panic.

use std::{convert::Infallible, path::Path};

use diagnostics::Code;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use fuzzing::Corpus;
use proptest::prelude::*;
use serde_json::Value;

use super::{CallError, Peer, RestClient};

const WORDS: &[&str] = &[
    "data:", "event:", "id:", "retry:", ":", "\n", "\n\n", "\r\n", "\u{feff}", "data: {", "\0", "é",
];

fn corpus() -> Corpus {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/sse");
    Corpus::read(&directory, WORDS).unwrap()
}

fn client() -> RestClient {
    let peer = Peer {
        name: "hive",
        unreachable: Code::HiveUnreachable,
        bad_response: Code::HiveBadResponse,
    };
    RestClient::new(peer, "http://127.0.0.1:1", None).unwrap()
}

/// Returns the name and the data of each event. Data that is not JSON is an error.
fn events(client: &RestClient, chunks: Vec<Vec<u8>>) -> Vec<Result<(String, Value), CallError>> {
    let bytes = stream::iter(chunks.into_iter().map(Ok::<_, Infallible>));
    let parse = |name: &str, data: &str| -> serde_json::Result<_> {
        Ok(Some((name.to_owned(), serde_json::from_str(data)?)))
    };
    let all = client
        .clone()
        .parse_events(bytes, parse)
        .collect::<Vec<_>>();
    // All chunks are available, so the stream never waits.
    all.now_or_never().unwrap()
}

#[test]
fn parses_the_corpus() {
    let tokens = corpus().files()[1].clone();
    let events = events(&client(), vec![tokens]);
    let names: Vec<&str> = events
        .iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["start", "token", "token", "end"]);
    assert!(events.last().unwrap().is_err(), "`[DONE]` is not JSON");
}

proptest! {
    #![proptest_config(fuzzing::cases(3000))]

    #[test]
    fn any_split_of_a_damaged_stream_yields_the_same_events(
        bytes in corpus().damaged(),
        length in 1..40_usize,
    ) {
        let client = client();
        let unsplit = events(&client, vec![bytes.clone()]);
        let chunks = bytes.chunks(length).map(<[u8]>::to_vec).collect();
        prop_assert_eq!(&events(&client, chunks), &unsplit);
        for error in unsplit.into_iter().filter_map(Result::err) {
            prop_assert!(matches!(error, CallError::Link(_)), "{}", error);
        }
    }
}
