//! The examples in `docs/policies.md`: each is a script under a heading of its own.

use scheduling_policy::{Opinion, Policy, RequestFacts, WorkerFacts};

use crate::{batch, place, refused, request, worker};

const DOCUMENT: &str = include_str!("../../../../docs/policies.md");

/// The scripts of the document, each with its heading.
fn examples() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let (mut heading, mut script) = (String::new(), None::<String>);
    for line in DOCUMENT.lines() {
        match (&mut script, line) {
            (None, "```rhai") => script = Some(String::new()),
            (Some(text), "```") => {
                found.push((heading.clone(), std::mem::take(text)));
                script = None;
            }
            (Some(text), line) => text.extend([line, "\n"]),
            (None, line) => {
                if let Some(title) = line.strip_prefix("### ") {
                    title.clone_into(&mut heading);
                }
            }
        }
    }
    found
}

fn check(heading: &str, policy: &Policy) {
    let big = RequestFacts {
        model_bytes: 20 << 30,
        ..request()
    };
    let route = |request: &RequestFacts, worker: WorkerFacts| {
        policy.route(request, &[worker]).unwrap().remove(0)
    };
    match heading {
        "Keep big models off the laptop" => {
            let places = [place("laptop", "cpu"), place("attic", "cuda")];
            assert_eq!(
                policy.place(&big, &places).unwrap(),
                [
                    refused("models above 8 GiB stay off the laptop"),
                    Opinion::None
                ]
            );
            assert_eq!(
                policy.place(&request(), &places).unwrap(),
                [Opinion::None, Opinion::None]
            );
        }
        "Prefer some nodes" => {
            let places = [place("gpu-1", "cuda"), place("attic", "cpu")];
            assert_eq!(
                policy.place(&request(), &places).unwrap(),
                [Opinion::Score(10.0), Opinion::None]
            );
            let fast = WorkerFacts {
                node: "gpu-2".into(),
                ..worker("w-1")
            };
            assert_eq!(route(&request(), fast), Opinion::Score(10.0));
            assert_eq!(route(&request(), worker("w-1")), Opinion::None);
        }
        "Spread batch requests, and leave room for interactive ones" => {
            let busy = WorkerFacts {
                running: 3,
                free_slots: 1,
                ..worker("w-1")
            };
            assert_eq!(route(&batch(), worker("w-1")), Opinion::Score(0.0));
            let half = WorkerFacts {
                running: 2,
                free_slots: 2,
                ..worker("w-1")
            };
            assert_eq!(route(&batch(), half), Opinion::Score(-2.0));
            assert_eq!(
                route(&batch(), busy.clone()),
                refused("the last slot is for interactive requests")
            );
            assert_eq!(route(&request(), busy), Opinion::None);
        }
        "Batch requests stop no other model" => {
            let mut full = place("attic", "cuda");
            full.needs_room = true;
            let places = [full, place("local", "cpu")];
            assert_eq!(
                policy.place(&batch(), &places).unwrap(),
                [
                    refused("a batch request stops no other model"),
                    Opinion::None
                ]
            );
            assert_eq!(
                policy.place(&request(), &places).unwrap(),
                [Opinion::None, Opinion::None]
            );
        }
        other => panic!("the example `{other}` has no test"),
    }
}

#[test]
fn every_example_of_the_documentation_does_what_it_says() {
    let examples = examples();
    assert!(examples.len() >= 4, "{examples:?}");
    for (heading, script) in &examples {
        let policy = Policy::compile(script).unwrap_or_else(|error| panic!("{heading}: {error}"));
        check(heading, &policy);
    }
}
