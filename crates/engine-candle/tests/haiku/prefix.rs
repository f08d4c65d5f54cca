//! A cached prompt produces bit-identical output to a computed one.

use std::{path::Path, sync::Arc};

use inference_execution::{Runtime, RuntimeConfig};
use worker_contract::{InferInput, InferRequest, StreamEvent, TokenLogprob};

use crate::common::{f16_file, golden, open, q8_file};

#[derive(Debug, PartialEq)]
struct Output {
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

/// Submits all golden prompts at once. Returns the outputs and the number of cached tokens.
fn run(runtime: &Runtime) -> (Vec<Output>, u32) {
    let streams: Vec<_> = golden()
        .into_iter()
        .enumerate()
        .map(|(i, case)| {
            let id = format!("r{i}").parse().unwrap();
            let mut request = InferRequest::new(id, InferInput::Messages(case.messages));
            request.sampling.values.temperature = Some(0.0);
            request.max_tokens = Some(24);
            request.logprobs = Some(3);
            runtime.submit(request).unwrap()
        })
        .collect();
    let mut cached = 0;
    let mut outputs = Vec::new();
    for mut stream in streams {
        let mut output = Output {
            tokens: Vec::new(),
            logprobs: Vec::new(),
        };
        while let Some(event) = stream.blocking_recv() {
            match event {
                StreamEvent::Token(token) => {
                    output.tokens.push(token.id);
                    output.logprobs.extend(token.logprob);
                }
                StreamEvent::End(end) => cached += end.usage.cached_tokens,
                StreamEvent::Error(error) => panic!("{error}"),
                StreamEvent::Started(_) | StreamEvent::Metrics(_) => {}
            }
        }
        outputs.push(output);
    }
    (outputs, cached)
}

#[test]
fn cached_prompts_produce_bit_identical_output() {
    for (path, exact) in [(f16_file(), true), (q8_file(), false)] {
        let (expected, cached) = run(&runtime(&path, false));
        assert_eq!(cached, 0);
        for (output, case) in expected.iter().zip(golden()) {
            // Quantized weights and activations may prefer another token.
            assert!(!exact || output.tokens == case.output_ids[..output.tokens.len()]);
        }
        let with_cache = runtime(&path, true);
        let (first, cached_by_others) = run(&with_cache);
        assert!(first == expected, "cached by concurrent requests");
        assert!(cached_by_others > 0, "the prompts share a prefix");
        let (again, cached) = run(&with_cache);
        assert!(again == expected, "cached by earlier requests");
        let prompts: usize = golden().iter().map(|case| case.prompt_ids.len()).sum();
        // All but the last, incomplete block of each prompt.
        assert!(cached as usize > prompts - 20 * 16, "{cached} of {prompts}");
    }
}
