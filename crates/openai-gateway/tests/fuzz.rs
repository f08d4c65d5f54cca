//! Whatever a client sends: an error that names the field, or a request for a worker.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

use std::path::Path;

use diagnostics::Code;
use fuzzing::Corpus;
use openai_gateway::{Call, Edge};
use proptest::prelude::*;

const WORDS: &[&str] = &[
    "null",
    "-1",
    "0",
    "1e999",
    "1.5",
    "4294967296",
    "18446744073709551616",
    "{}",
    "[]",
    "[[[[",
    "\"\"",
    "\"\\ud83d\"",
    "\"\\u0000\"",
    "true",
    "\"role\":\"tool\",",
    "\"content\":null,",
    "\"content\":[{\"type\":\"image_url\"}],",
    "\"n\":99,",
    "\"temperature\":\"hot\",",
    "\"logit_bias\":{\"-1\":1e9},",
    "\"tools\":[{}],",
    "\"tool_choice\":{},",
    "\"stop\":[1],",
    "\"messages\":[],",
    "\"prompt\":[[1,2]],",
    "\"response_format\":{\"type\":7},",
    ",",
];

fn corpus(edge: Edge) -> Corpus {
    let name = match edge {
        Edge::Chat => "chat",
        Edge::Completion => "completion",
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    Corpus::read(&folder.join(name), WORDS).unwrap()
}

fn body(edge: Edge) -> impl Strategy<Value = (Edge, Vec<u8>)> {
    corpus(edge).damaged().prop_map(move |body| (edge, body))
}

proptest! {
    #![proptest_config(fuzzing::cases(4000))]

    #[test]
    fn damaged_bodies_are_refused_or_understood(
        (edge, body) in prop_oneof![body(Edge::Chat), body(Edge::Completion)],
    ) {
        let Ok(body) = serde_json::from_slice(&body) else {
            return Ok(());
        };
        match Call::parse(edge, &body) {
            Ok(call) => {
                prop_assert!(!call.model.is_empty());
                let request = call.into_request("r".parse().unwrap(), None);
                let sent = serde_json::to_string(&request).unwrap();
                let read = serde_json::from_str(&sent);
                prop_assert_eq!(request, read.unwrap());
            }
            Err(error) => {
                let of_client = [
                    Code::InvalidRequest,
                    Code::UnsupportedParameter,
                ];
                prop_assert!(of_client.contains(&error.code), "{:?}", error);
                let printable = |c: char| c == '\n' || !c.is_control();
                prop_assert!(error.message.chars().all(printable), "{:?}", error);
            }
        }
    }
}
