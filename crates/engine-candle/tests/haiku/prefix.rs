//! A prompt that is found in the cache gives the same answer, bit by bit, as one that is
//! computed.

use std::{path::Path, sync::Arc};

use inference_execution::{Runtime, RuntimeConfig};
use worker_contract::{InferInput, InferRequest, StreamEvent, TokenLogprob};

use crate::common::{f16_file, golden, open, q8_file};

#[derive(Debug, PartialEq)]
struct Answer {
    tokens: Vec<u32>,
    logprobs: Vec<TokenLogprob>,
}

fn runtime(path: &Path, prefix_cache: bool) -> Runtime {
    let loaded = open(path);
    let config = RuntimeConfig {
        prefix_cache,
        queue: 20,
        ..RuntimeConfig::new("builtin:haiku".parse().unwrap(), 4)
    };
    Runtime::start(Box::new(loaded.engine), Arc::new(loaded.codec), config).unwrap()
}

/// Asks every golden question at once: the answers and how many tokens were cached.
fn ask(runtime: &Runtime) -> (Vec<Answer>, u32) {
    let streams: Vec<_> = golden()
        .into_iter()
        .enumerate()
        .map(|(i, case)| {
            let id = format!("r{i}").parse().unwrap();
            let mut request = InferRequest::new(id, InferInput::Messages(case.messages));
            request.sampling.temperature = 0.0;
            request.max_tokens = Some(24);
            request.logprobs = Some(3);
            runtime.submit(request).unwrap()
        })
        .collect();
    let mut cached = 0;
    let mut answers = Vec::new();
    for mut stream in streams {
        let mut answer = Answer {
            tokens: Vec::new(),
            logprobs: Vec::new(),
        };
        while let Some(event) = stream.blocking_recv() {
            match event {
                StreamEvent::Token(token) => {
                    answer.tokens.push(token.id);
                    answer.logprobs.extend(token.logprob);
                }
                StreamEvent::End(end) => cached += end.usage.cached_tokens,
                StreamEvent::Error(error) => panic!("{error}"),
                StreamEvent::Started(_) | StreamEvent::Metrics(_) => {}
            }
        }
        answers.push(answer);
    }
    (answers, cached)
}

#[test]
fn a_warm_cache_changes_no_bit() {
    for (path, exact) in [(f16_file(), true), (q8_file(), false)] {
        let (expected, cached) = ask(&runtime(&path, false));
        assert_eq!(cached, 0);
        for (answer, case) in expected.iter().zip(golden()) {
            // Rounded weights and activations may prefer another word.
            assert!(!exact || answer.tokens == case.output_ids[..answer.tokens.len()]);
        }
        let warm = runtime(&path, true);
        let (first, cached_by_others) = ask(&warm);
        assert!(first == expected, "with what the others compute");
        assert!(cached_by_others > 0, "all begin alike");
        let (again, cached) = ask(&warm);
        assert!(again == expected, "with what was computed before");
        let prompts: usize = golden().iter().map(|case| case.prompt_ids.len()).sum();
        // All but the last, unfilled block of each.
        assert!(cached as usize > prompts - 20 * 16, "{cached} of {prompts}");
    }
}
