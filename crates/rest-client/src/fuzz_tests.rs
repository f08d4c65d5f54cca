//! Whatever a peer streams: events, or an error that says so.

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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/sse");
    Corpus::read(&folder, WORDS).unwrap()
}

fn client() -> RestClient {
    let peer = Peer {
        name: "hive",
        unreachable: Code::HiveUnreachable,
        bad_response: Code::HiveBadResponse,
    };
    RestClient::new(peer, "http://127.0.0.1:1", None).unwrap()
}

/// Name and data of each event; data that is no JSON breaks the stream.
fn events(client: &RestClient, pieces: Vec<Vec<u8>>) -> Vec<Result<(String, Value), CallError>> {
    let bytes = stream::iter(pieces.into_iter().map(Ok::<_, Infallible>));
    let read = |name: &str, data: &str| -> serde_json::Result<_> {
        Ok(Some((name.to_owned(), serde_json::from_str(data)?)))
    };
    let all = client.clone().read_events(bytes, read).collect::<Vec<_>>();
    // Every piece is there already, so nothing waits.
    all.now_or_never().unwrap()
}

#[test]
fn the_corpus_is_read() {
    let tokens = corpus().files()[1].clone();
    let events = events(&client(), vec![tokens]);
    let names: Vec<&str> = events
        .iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["start", "token", "token", "end"]);
    assert!(events.last().unwrap().is_err(), "`[DONE]` is no JSON");
}

proptest! {
    #![proptest_config(fuzzing::cases(3000))]

    #[test]
    fn damaged_streams_are_read_the_same_in_any_pieces(
        bytes in corpus().damaged(),
        length in 1..40_usize,
    ) {
        let client = client();
        let whole = events(&client, vec![bytes.clone()]);
        let pieces = bytes.chunks(length).map(<[u8]>::to_vec).collect();
        prop_assert_eq!(&events(&client, pieces), &whole);
        for error in whole.into_iter().filter_map(Result::err) {
            prop_assert!(matches!(error, CallError::Link(_)), "{}", error);
        }
    }
}
