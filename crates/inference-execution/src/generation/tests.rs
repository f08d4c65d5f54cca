use proptest::prelude::*;
use worker_contract::{InferInput, Sampling, SamplingValues, ToolCall, ToolChoice, ToolDefinition};

use super::*;
use crate::{reasoning_request::OutputReasoning, sampler::SamplerSettings};

const END: u32 = 256;

fn request(stop: &[&str], sampling: Sampling) -> InferRequest {
    InferRequest {
        sampling,
        stop: stop.iter().map(|s| (*s).to_owned()).collect(),
        ..InferRequest::new("r".parse().unwrap(), InferInput::Prompt("p".into()))
    }
}

fn generation(request: &InferRequest, max_tokens: u32, seed: u64) -> Generation {
    let admitted = admitted(request, max_tokens);
    Generation::new(request, &admitted, seed, Arc::new(Codec::byte_level()))
}

fn admitted(request: &InferRequest, max_tokens: u32) -> Admitted {
    Admitted {
        prompt: vec![1],
        max_tokens,
        sampling: SamplerSettings::resolve(request, &SamplingValues::default()),
        notes: Vec::new(),
        reasoning: None,
    }
}

/// Logits that leave only `token`.
fn only(token: u32) -> Vec<f32> {
    let mut logits = vec![f32::NEG_INFINITY; 257];
    logits[token as usize] = 0.0;
    logits
}

fn feed(generation: &mut Generation, tokens: &[u32]) -> (Vec<String>, Option<FinishReason>) {
    let mut texts = Vec::new();
    for token in tokens {
        let generated = generation.next(&only(*token)).unwrap().unwrap();
        assert_eq!(generated.event.id, *token);
        assert_eq!(generated.event.i as usize + 1, generation.count() as usize);
        texts.push(generated.event.t);
        if generated.finish.is_some() {
            return (texts, generated.finish);
        }
    }
    (texts, None)
}

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

#[test]
fn last_token_releases_text_that_was_held_back() {
    let with_stop = request(&["xyz"], Sampling::default());
    let mut g = generation(&with_stop, 100, 1);
    let (texts, reason) = feed(&mut g, &[&bytes("é xy")[..], &[END]].concat());
    assert_eq!(texts, ["", "é", " ", "", "", "xy"]);
    assert_eq!(reason, Some(FinishReason::Stop));

    let mut g = generation(&with_stop, 4, 1);
    let (texts, reason) = feed(&mut g, &bytes("é xyz"));
    assert_eq!(
        (texts.concat().as_str(), reason),
        ("é x", Some(FinishReason::Length))
    );

    // The output is cut off inside a character.
    let mut g = generation(&with_stop, 1, 1);
    assert_eq!(feed(&mut g, &bytes("é")).0, [""]);
}

#[test]
fn stop_sequence_is_not_part_of_the_text() {
    let mut g = generation(&request(&["\n\n", "é!"], Sampling::default()), 100, 1);
    let (texts, reason) = feed(&mut g, &bytes("a\nbé! and more"));
    assert_eq!(
        (texts.concat().as_str(), reason),
        ("a\nb", Some(FinishReason::Stop))
    );
}

#[test]
fn penalties_apply_to_sampled_and_replayed_tokens() {
    let mut sampling = Sampling::greedy();
    sampling.values.presence_penalty = Some(1.0);
    let mut g = generation(&request(&[], sampling), 9, 1);
    g.replay(&[97]);
    let mut logits = vec![f32::NEG_INFINITY; 257];
    for (token, logit) in [(97, 1.0), (98, 0.9), (99, 0.2)] {
        logits[token] = logit;
    }
    let sampled: Vec<u32> = (0..2)
        .map(|_| g.next(&logits).unwrap().unwrap().event.id)
        .collect();
    assert_eq!(sampled, [98, 99]);
    assert_eq!((g.count(), g.sampled()), (3, 2));
}

#[test]
fn logprobs_include_the_alternatives() {
    let mut greedy = request(&[], Sampling::greedy());
    greedy.logprobs = Some(2);
    let mut logits = vec![f32::NEG_INFINITY; 257];
    logits[97] = 3.0_f32.ln();
    logits[256] = 0.0;
    let event = generation(&greedy, 9, 1)
        .next(&logits)
        .unwrap()
        .unwrap()
        .event;
    let logprob = event.logprob.unwrap();
    assert!((logprob.logprob - 0.75_f32.ln()).abs() < 1e-6);
    let top: Vec<_> = logprob
        .top
        .iter()
        .map(|t| (t.id, t.token.as_str()))
        .collect();
    assert_eq!(top, [(97, "a"), (256, "<|end|>")]);
}

/// Returns a request that may call `f` and `g`.
fn with_tools(stop: &[&str]) -> InferRequest {
    let mut request = request(stop, Sampling::default());
    request.tools = ["f", "g"]
        .map(|name| ToolDefinition {
            name: name.into(),
            description: None,
            parameters: None,
            strict: false,
        })
        .to_vec();
    request
}

/// Returns the text, the tool calls and the finish reason of an output with the tokens of `text`.
fn output(request: &InferRequest, text: &str) -> (String, Vec<ToolCall>, FinishReason) {
    let mut g = generation(request, 1000, 1);
    let (mut plain, mut calls) = (String::new(), Vec::new());
    for token in bytes(text).into_iter().chain([END]) {
        let generated = g.next(&only(token)).unwrap().unwrap();
        plain.push_str(&generated.event.t);
        for piece in generated.event.calls {
            piece.append_to(&mut calls);
        }
        if let Some(reason) = generated.finish {
            return (plain, calls, reason);
        }
    }
    panic!("the output did not finish");
}

const TWO_CALLS: &str = "So: <tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"é STOP\"}}</tool_call>\n<tool_call>{\"name\": \"g\"}</tool_call>";

#[test]
fn tool_calls_arrive_in_pieces_and_set_the_finish_reason() {
    let (text, calls, reason) = output(&with_tools(&["STOP"]), TWO_CALLS);
    assert_eq!((text.as_str(), reason), ("So: ", FinishReason::ToolCalls));
    let seen: Vec<_> = calls
        .iter()
        .map(|c| (c.name.as_str(), c.arguments.as_str()))
        .collect();
    assert_eq!(seen, [("f", "{\"x\": \"é STOP\"}"), ("g", "{}")]);
    assert!(calls[0].id.len() == 9 && calls[0].id != calls[1].id);

    let mut one = with_tools(&[]);
    one.parallel_tool_calls = false;
    let (_, first, reason) = output(&one, TWO_CALLS);
    assert_eq!((&first[..], reason), (&calls[..1], FinishReason::ToolCalls));

    for without_tools in [
        request(&[], Sampling::default()),
        InferRequest {
            tool_choice: ToolChoice::None,
            ..with_tools(&[])
        },
    ] {
        let (text, calls, reason) = output(&without_tools, TWO_CALLS);
        assert_eq!((text.as_str(), reason), (TWO_CALLS, FinishReason::Stop));
        assert!(calls.is_empty());
    }
}

#[test]
fn forced_tool_call_ends_the_output() {
    for choice in [ToolChoice::Required, ToolChoice::Named("f".into())] {
        let mut request = with_tools(&["x"]);
        request.tool_choice = choice;
        let call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}";
        let mut g = generation(&request, 1000, 1);
        let (texts, reason) = feed(&mut g, &bytes(call));
        assert_eq!(
            (texts.concat().as_str(), reason),
            ("", Some(FinishReason::ToolCalls))
        );
        // The output ends before the bracket that closes the object around the arguments.
        assert_eq!(g.count() as usize, call.len() - 1);
        // Without its arguments, a call that is cut off is dropped.
        let mut g = generation(&request, 10, 1);
        let (texts, reason) = feed(&mut g, &bytes(call));
        assert_eq!(
            (texts.concat().as_str(), reason),
            ("", Some(FinishReason::Length))
        );
    }
}

#[test]
fn stop_sequences_apply_outside_of_tool_calls_only() {
    let stops = with_tools(&["x<", "STOP", "\n\n"]);
    let (text, calls, reason) = output(&stops, &format!("{TWO_CALLS} a STOP b"));
    assert_eq!(
        (text.as_str(), reason),
        ("So:  a ", FinishReason::ToolCalls)
    );
    assert_eq!(calls.len(), 2);
    let (text, calls, reason) = output(&stops, "wait STOP <tool_call>{\"name\": \"f\"}");
    assert_eq!((text.as_str(), reason), ("wait ", FinishReason::Stop));
    assert!(calls.is_empty());
    // A stop sequence that starts before a call does not continue in the call.
    let (text, _, _) = output(&stops, "x<tool_call>{\"name\": \"f\"}</tool_call>");
    assert_eq!(text, "x");
    // Text that only looked like a call may contain a stop sequence.
    let (text, _, reason) = output(&stops, "<tool_call>x<");
    assert_eq!((text.as_str(), reason), ("<tool_call>", FinishReason::Stop));
}

#[test]
fn tool_call_that_is_cut_off_keeps_its_arguments() {
    let mut g = generation(&with_tools(&[]), 45, 1);
    let (texts, reason) = feed(&mut g, &bytes(&TWO_CALLS[4..]));
    assert_eq!(
        (texts.concat().as_str(), reason),
        ("", Some(FinishReason::Length))
    );
}

#[test]
fn no_mark_becomes_text_wherever_the_output_is_cut_off() {
    let codec = Arc::new(Codec::byte_level());
    let format = reasoning::Format::detect("<think></think>", |_| false).unwrap();
    let text = format!("<think>\nA thought.\n</think>\n\n{TWO_CALLS}");
    for max_tokens in 1..text.len() {
        let request = with_tools(&["never"]);
        let admitted = Admitted {
            reasoning: Some(OutputReasoning {
                splitter: format.splitter(reasoning::Start::Undecided),
                budget: None,
                opening: Vec::new(),
                closing: Vec::new(),
                always_opens: false,
            }),
            ..admitted(&request, max_tokens as u32)
        };
        let mut g = Generation::new(&request, &admitted, 1, Arc::clone(&codec));
        let (mut reasoning, mut answer, mut calls) = (String::new(), String::new(), Vec::new());
        let mut finish = None;
        for token in bytes(&text).into_iter().take(max_tokens) {
            let generated = g.next(&only(token)).unwrap().unwrap();
            reasoning.push_str(&generated.event.reasoning);
            answer.push_str(&generated.event.t);
            for piece in generated.event.calls {
                piece.append_to(&mut calls);
            }
            finish = generated.finish;
        }
        assert_eq!(finish, Some(FinishReason::Length));
        assert!(
            "A thought.\n".starts_with(&reasoning),
            "{max_tokens}: {reasoning:?}"
        );
        assert!("So: ".starts_with(&answer), "{max_tokens}: {answer:?}");
        let all = [("f", "{\"x\": \"é STOP\"}"), ("g", "{}")];
        for (call, (name, arguments)) in calls.iter().zip(all) {
            assert_eq!(call.name, name);
            assert!(
                arguments.starts_with(&call.arguments),
                "{max_tokens}: {call:?}"
            );
        }
    }
}

#[test]
fn continued_output_has_the_same_tool_call_pieces() {
    let request = with_tools(&["STOP"]);
    let tokens: Vec<u32> = bytes(TWO_CALLS).into_iter().chain([END]).collect();
    let run = |g: &mut Generation, tokens: &[u32]| -> Vec<Generated> {
        tokens
            .iter()
            .map(|t| g.next(&only(*t)).unwrap().unwrap())
            .collect()
    };
    let complete = run(&mut generation(&request, 1000, 1), &tokens);
    for cut in 0..tokens.len() {
        let mut continued = generation(&request, 1000, 1);
        assert_eq!(continued.replay(&tokens[..cut]), None);
        assert_eq!(run(&mut continued, &tokens[cut..]), complete[cut..]);
    }
}

proptest! {
    /// An output that is interrupted after any token continues with the same tokens, texts and
    /// finish reason.
    #[test]
    fn continued_output_equals_the_uninterrupted_one(
        seed: u64,
        cut in 0..30_usize,
        frequency_penalty in prop_oneof![Just(0.0_f32), Just(1.0)],
        repetition_penalty in prop_oneof![Just(1.0_f32), Just(1.5)],
        temperature in prop_oneof![Just(0.0_f32), Just(1.3)],
        penalty_window in prop_oneof![0..9_u32, Just(u32::MAX)],
    ) {
        let values = SamplingValues {
            temperature: Some(temperature),
            frequency_penalty: Some(frequency_penalty),
            repetition_penalty: Some(repetition_penalty),
            penalty_window: Some(penalty_window),
            ..SamplingValues::default()
        };
        let sampling = Sampling { values, ..Sampling::default() };
        let request = request(&["ab", "é"], sampling);
        // A small alphabet, so that stop sequences, multi-byte characters and the end token occur.
        let logits = |i: u32| {
            let mut logits = vec![f32::NEG_INFINITY; 257];
            for (n, token) in [97, 98, 0xc3, 0xa9, 120, END].into_iter().enumerate() {
                let spread = (u64::from(i) * 31 + seed % 97 + n as u64 * 7) % 11;
                logits[token as usize] = spread as f32 * if token == END { 0.1 } else { 0.3 };
            }
            logits
        };
        let run = |g: &mut Generation| {
            let mut all = Vec::new();
            loop {
                let generated = g.next(&logits(g.count())).unwrap().unwrap();
                let finish = generated.finish;
                all.push(generated);
                if finish.is_some() {
                    return all;
                }
            }
        };
        let complete = run(&mut generation(&request, 30, seed));
        let cut = cut.min(complete.len());
        let before: Vec<u32> = complete[..cut].iter().map(|g| g.event.id).collect();
        let mut continued = generation(&request, 30, seed);
        if let Some(reason) = continued.replay(&before) {
            prop_assert_eq!(complete[cut - 1].finish, Some(reason));
        } else {
            prop_assert_eq!(&run(&mut continued)[..], &complete[cut..]);
        }
    }
}
