use reasoning::{Format, Start};
use worker_contract::{InferInput, SamplingValues};

use super::*;

fn generation(
    change: impl FnOnce(&mut InferRequest),
    reasons: bool,
    repeated: &[u32],
) -> Generation {
    let mut request = InferRequest::new("r".parse().unwrap(), InferInput::Prompt("x".into()));
    change(&mut request);
    let started = StartedEvent {
        request_id: request.request_id.clone(),
        model: "mock:m".parse().unwrap(),
        seed: 1,
        prompt_tokens: 3,
        prompt: Vec::new(),
        cached_tokens: 0,
        sampling: SamplingValues::default(),
        notes: Vec::new(),
    };
    let format = Format::detect("<think></think>", |_| false).unwrap();
    let splitter = reasons.then(|| format.splitter(Start::Undecided));
    let times = RequestTimes::arrived_now();
    Generation::new(&request, started, times, splitter, repeated.to_vec())
}

fn piece(id: u32, text: &str) -> Piece {
    Piece {
        text: text.into(),
        token: Some(id),
        ..Piece::default()
    }
}

/// Returns the texts and reasoning of the events, and the end.
fn run(
    mut generation: Generation,
    texts: &[&str],
    reason: FinishReason,
) -> (String, String, EndEvent) {
    let mut events = Vec::new();
    for (id, text) in (0..).zip(texts) {
        if generation.push(piece(id, text), &mut events).unwrap() {
            break;
        }
    }
    let (last, [_, StreamEvent::End(end)]) = generation.end(reason) else {
        panic!("no end")
    };
    events.extend(last);
    let numbers: Vec<u32> = events.iter().map(|event| event.i).collect();
    let all: Vec<u32> = (0..events.len() as u32).collect();
    assert_eq!(numbers, all, "no gaps");
    let text = events.iter().map(|event| event.t.as_str()).collect();
    let reasoning = events
        .iter()
        .map(|event| event.reasoning.as_str())
        .collect();
    (text, reasoning, end)
}

#[test]
fn text_that_could_be_a_stop_sequence_is_held_back_and_nothing_is_lost() {
    let stops = |request: &mut InferRequest| request.stop = vec!["#".into(), "END".into()];
    let (text, _, end) = run(
        generation(stops, false, &[]),
        &["a E", "N", "D b", "c"],
        FinishReason::Length,
    );
    assert_eq!(
        (text.as_str(), end.stop, end.usage.completion_tokens),
        ("a ", Some(1), 3)
    );
    let (text, _, end) = run(
        generation(stops, false, &[]),
        &["a E", "N"],
        FinishReason::Length,
    );
    assert_eq!((text.as_str(), end.stop), ("a EN", None));
}

#[test]
fn reasoning_is_separated_and_its_tokens_are_counted() {
    let texts = ["<think>", "hm", "</think>", "yes"];
    let (text, reasoning, end) = run(generation(|_| (), true, &[]), &texts, FinishReason::Stop);
    assert_eq!((text.as_str(), reasoning.as_str()), ("yes", "hm"));
    assert!((1..=3).contains(&end.usage.reasoning_tokens), "{end:?}");
}

#[test]
fn repeated_tokens_are_compared_and_not_sent() {
    let continued = |request: &mut InferRequest| request.continue_from = vec![7, 8];
    let mut same = generation(continued, false, &[7, 8]);
    let mut events = Vec::new();
    for (id, text) in [(7, "a"), (8, "b"), (9, "c")] {
        same.push(piece(id, text), &mut events).unwrap();
    }
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].i, events[0].t.as_str()), (2, "c"));
    let mut other = generation(continued, false, &[7, 8]);
    other.push(piece(7, "a"), &mut events).unwrap();
    assert!(other.push(piece(6, "x"), &mut events).is_err());
}

#[test]
fn the_engine_counts_tokens_that_have_no_ids() {
    let mut generation = generation(|_| (), false, &[]);
    let mut events = Vec::new();
    let chunk = Piece {
        text: "several tokens".into(),
        ..Piece::default()
    };
    generation.push(chunk, &mut events).unwrap();
    generation.set_counts(Counts {
        prompt: Some(9),
        completion: Some(2),
        cached: None,
    });
    let (_, [_, StreamEvent::End(end)]) = generation.end(FinishReason::Stop) else {
        panic!("no end")
    };
    assert_eq!(
        (end.usage.prompt_tokens, end.usage.completion_tokens),
        (3, 2)
    );
}
