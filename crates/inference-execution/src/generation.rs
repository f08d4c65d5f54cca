//! One answer: from logits to token events, until it ends.

use std::{sync::Arc, time::Instant};

use diagnostics::Diagnostic;
use text_codec::{Codec, Utf8Stream};
use worker_contract::{
    FinishReason, InferRequest, TokenEvent, TokenLogprob, ToolCallPiece, TopLogprob,
};

use crate::{
    Guide, Sampler, StopMatcher,
    admission::Admitted,
    sampler::logprob,
    tool_calls::{CallIds, FORCED, Part, ToolCallParser},
};

/// The state of an answer between two tokens.
pub struct Generation {
    codec: Arc<Codec>,
    sampler: Sampler,
    utf8: Utf8Stream,
    stops: StopMatcher,
    tools: Option<Tools>,
    /// Keeps the answer to its constraint.
    guide: Option<Guide>,
    max_tokens: u32,
    logprobs: Option<u8>,
    /// Tokens of the answer so far.
    count: u32,
}

/// What becomes of calls of tools; absent, the answer cannot call any.
struct Tools {
    parser: ToolCallParser,
    ids: CallIds,
    /// Calls so far.
    calls: u32,
    /// The answer is nothing but a call.
    forced: bool,
    /// The answer goes on after its first call.
    parallel: bool,
}

/// What became final with a token.
#[derive(Debug, Default)]
struct Final {
    text: String,
    calls: Vec<ToolCallPiece>,
    finish: Option<FinishReason>,
}

/// A token and whether it was the last.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The event to send.
    pub event: TokenEvent,
    /// Set with the last token.
    pub finish: Option<FinishReason>,
}

impl Generation {
    /// The beginning of the answer to `request`.
    pub fn new(request: &InferRequest, admitted: &Admitted, seed: u64, codec: Arc<Codec>) -> Self {
        Self {
            tools: Tools::of(request, admitted, seed, &codec),
            codec,
            sampler: Sampler::new(request.sampling.clone(), seed, &admitted.prompt),
            utf8: Utf8Stream::default(),
            stops: StopMatcher::new(request.stop.clone()),
            guide: None,
            max_tokens: admitted.max_tokens,
            logprobs: request.logprobs,
            count: 0,
        }
    }

    /// Tokens of the answer so far, those generated elsewhere included.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// From here on the answer keeps to what the guide allows; it knows the tokens so far.
    pub fn keep_to(&mut self, guide: Guide) {
        self.guide = Some(guide);
    }

    /// The stop text that ended the answer, by its place in the request.
    pub fn stopped_by(&self) -> Option<u32> {
        self.stops.found().map(|which| which as u32)
    }

    /// Takes tokens that were generated elsewhere as if they had been chosen here, without
    /// events. A reason means that the answer was complete already.
    pub fn replay(&mut self, tokens: &[u32]) -> Option<FinishReason> {
        tokens.iter().find_map(|token| self.accept(*token).finish)
    }

    /// Waits, until `end` at the latest, for the guide to know which tokens are allowed.
    pub fn wait(&mut self, end: Instant) {
        if let Some(guide) = &mut self.guide {
            guide.wait(end);
        }
    }

    /// Chooses the next token; `None` when it is not known yet which are allowed: the same
    /// logits are then to be given again.
    ///
    /// Errors: `INTERNAL` when the logits allow none, `INVALID_REQUEST` when the constraint
    /// cannot be followed any further.
    pub fn next(&mut self, logits: &[f32]) -> Result<Option<Generated>, Diagnostic> {
        let i = self.count;
        let allowed = match &mut self.guide {
            None => None,
            Some(guide) => match guide.allowed()? {
                None => return Ok(None),
                allowed => allowed,
            },
        };
        let id = self
            .sampler
            .choose(logits, i, allowed)
            .ok_or_else(|| Diagnostic::internal("the model gave no usable logits"))?;
        let logprob = self.logprobs.map(|top| self.logprob(logits, id, top));
        let done = self.accept(id);
        if let Some(guide) = &mut self.guide
            && done.finish.is_none()
        {
            guide.accept(id);
        }
        Ok(Some(Generated {
            event: TokenEvent {
                i,
                t: done.text,
                id,
                calls: done.calls,
                logprob,
            },
            finish: done.finish,
        }))
    }

    /// Counts a token in; what is final with it, and the reason if it ends the answer.
    fn accept(&mut self, id: u32) -> Final {
        self.count += 1;
        self.sampler.note(id);
        let mut done = Final::default();
        let is_end = self.codec.end_tokens().contains(&id);
        let piece = if is_end {
            String::new()
        } else {
            // Markers of calls, which are special tokens in some vocabularies, count as text
            // where they are looked for.
            let marker = self.tools.as_ref().and_then(|_| self.codec.marker(id));
            let bytes = marker.map_or_else(|| self.codec.token_bytes(id), str::as_bytes);
            self.utf8.push(bytes)
        };
        done.finish = self.say(&piece, &mut done);
        if done.finish.is_none() && (is_end || self.count >= self.max_tokens) {
            // Nothing follows, so what was held back is final now.
            let rest = self.utf8.flush();
            let stopped = self.say(&rest, &mut done).or_else(|| self.close(&mut done));
            let cut = (!is_end).then_some(FinishReason::Length);
            done.finish = stopped.or(cut).or_else(|| Some(self.stopped()));
        }
        done
    }

    /// Takes text; a reason when the answer ends with it.
    fn say(&mut self, text: &str, done: &mut Final) -> Option<FinishReason> {
        match &mut self.tools {
            None => self.say_text(text, done),
            Some(tools) => {
                let parts = tools.parser.push(text);
                self.say_parts(parts, done)
            }
        }
    }

    /// What was held back comes out; a reason when it holds a stop text.
    fn close(&mut self, done: &mut Final) -> Option<FinishReason> {
        if let Some(tools) = &mut self.tools {
            let mut parts = tools.parser.finish();
            if tools.forced {
                // The beginning of a call that was cut off is no text for the reader.
                parts.retain(|part| !matches!(part, Part::Text(_)));
            }
            let reason = self.say_parts(parts, done);
            if reason.is_some() {
                return reason;
            }
        }
        done.text.push_str(&self.stops.flush());
        None
    }

    fn say_text(&mut self, text: &str, done: &mut Final) -> Option<FinishReason> {
        let pushed = self.stops.push(text);
        done.text.push_str(&pushed.text);
        pushed.stopped.then(|| self.stopped())
    }

    fn say_parts(&mut self, parts: Vec<Part>, done: &mut Final) -> Option<FinishReason> {
        for part in parts {
            if let Part::Text(text) = &part {
                let reason = self.say_text(text, done);
                if reason.is_some() {
                    return reason;
                }
            } else if let Some(tools) = &mut self.tools {
                // No stop text reaches over a call.
                done.text.push_str(&self.stops.flush());
                if tools.take(part, &mut done.calls) {
                    return Some(FinishReason::ToolCalls);
                }
            }
        }
        None
    }

    /// Why an answer ended that was not cut off.
    fn stopped(&self) -> FinishReason {
        match &self.tools {
            Some(tools) if tools.calls > 0 => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        }
    }

    fn logprob(&self, logits: &[f32], id: u32, top: u8) -> TokenLogprob {
        let of = logprob(logits, id, usize::from(top));
        let bytes = |id| self.codec.token_bytes(id).to_vec();
        TokenLogprob {
            token: self.codec.token_text(id),
            bytes: bytes(id),
            logprob: of.chosen,
            top: of
                .top
                .into_iter()
                .map(|(id, logprob)| TopLogprob {
                    id,
                    token: self.codec.token_text(id),
                    bytes: bytes(id),
                    logprob,
                })
                .collect(),
        }
    }
}

impl Tools {
    fn of(request: &InferRequest, admitted: &Admitted, seed: u64, codec: &Codec) -> Option<Self> {
        if !request.may_call() {
            return None;
        }
        let forced = request.tool_choice.must_call();
        let style = if forced { FORCED } else { codec.tool_style()? };
        let functions = request.tools.iter().map(|tool| tool.name.clone()).collect();
        Some(Self {
            parser: ToolCallParser::new(style, functions),
            ids: CallIds::new(&admitted.prompt, seed, request.sampling.choice),
            calls: 0,
            forced,
            parallel: request.parallel_tool_calls && !forced,
        })
    }

    /// Puts a part of a call to the pieces; `true` when the answer ends with it.
    fn take(&mut self, part: Part, pieces: &mut Vec<ToolCallPiece>) -> bool {
        match part {
            Part::Begin(name) => {
                pieces.push(ToolCallPiece {
                    index: self.calls,
                    id: Some(self.ids.id(self.calls)),
                    name: Some(name),
                    arguments: String::new(),
                });
                self.calls += 1;
            }
            Part::Arguments(arguments) => {
                let index = self.calls.saturating_sub(1);
                match pieces.last_mut() {
                    Some(last) if last.index == index => last.arguments.push_str(&arguments),
                    _ => pieces.push(ToolCallPiece {
                        index,
                        id: None,
                        name: None,
                        arguments,
                    }),
                }
            }
            Part::End => return !self.parallel,
            Part::Text(_) => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use worker_contract::{InferInput, Sampling, ToolCall, ToolChoice, ToolDefinition};

    use super::*;

    const END: u32 = 256;

    fn request(stop: &[&str], sampling: Sampling) -> InferRequest {
        InferRequest {
            sampling,
            stop: stop.iter().map(|s| (*s).to_owned()).collect(),
            ..InferRequest::new("r".parse().unwrap(), InferInput::Prompt("p".into()))
        }
    }

    fn generation(request: &InferRequest, max_tokens: u32, seed: u64) -> Generation {
        let admitted = Admitted {
            prompt: vec![1],
            max_tokens,
        };
        Generation::new(request, &admitted, seed, Arc::new(Codec::byte_level()))
    }

    /// Logits that leave only `token`.
    fn only(token: u32) -> Vec<f32> {
        let mut logits = vec![f32::NEG_INFINITY; 257];
        logits[token as usize] = 0.0;
        logits
    }

    fn say(generation: &mut Generation, tokens: &[u32]) -> (Vec<String>, Option<FinishReason>) {
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
    fn the_last_token_brings_all_that_was_held_back() {
        let with_stop = request(&["xyz"], Sampling::default());
        let mut g = generation(&with_stop, 100, 1);
        let (texts, reason) = say(&mut g, &[&bytes("é xy")[..], &[END]].concat());
        assert_eq!(texts, ["", "é", " ", "", "", "xy"]);
        assert_eq!(reason, Some(FinishReason::Stop));

        let mut g = generation(&with_stop, 4, 1);
        let (texts, reason) = say(&mut g, &bytes("é xyz"));
        assert_eq!(
            (texts.concat().as_str(), reason),
            ("é x", Some(FinishReason::Length))
        );

        // Cut inside a character: it cannot be completed any more.
        let mut g = generation(&with_stop, 1, 1);
        assert_eq!(say(&mut g, &bytes("é")).0, ["\u{fffd}"]);
    }

    #[test]
    fn a_stop_text_is_not_part_of_the_answer() {
        let mut g = generation(&request(&["\n\n", "é!"], Sampling::default()), 100, 1);
        let (texts, reason) = say(&mut g, &bytes("a\nbé! and more"));
        assert_eq!(
            (texts.concat().as_str(), reason),
            ("a\nb", Some(FinishReason::Stop))
        );
    }

    #[test]
    fn what_was_said_or_replayed_is_penalised() {
        let sampling = Sampling {
            temperature: 0.0,
            presence_penalty: 1.0,
            ..Sampling::default()
        };
        let mut g = generation(&request(&[], sampling), 9, 1);
        g.replay(&[97]);
        let mut logits = vec![f32::NEG_INFINITY; 257];
        for (token, logit) in [(97, 1.0), (98, 0.9), (99, 0.2)] {
            logits[token] = logit;
        }
        let said: Vec<u32> = (0..2)
            .map(|_| g.next(&logits).unwrap().unwrap().event.id)
            .collect();
        assert_eq!(said, [98, 99]);
    }

    #[test]
    fn logprobs_name_the_alternatives() {
        let mut wanted = request(
            &[],
            Sampling {
                temperature: 0.0,
                ..Sampling::default()
            },
        );
        wanted.logprobs = Some(2);
        let mut logits = vec![f32::NEG_INFINITY; 257];
        logits[97] = 3.0_f32.ln();
        logits[256] = 0.0;
        let event = generation(&wanted, 9, 1)
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

    /// A request that may call `f` and `g`.
    fn with_tools(stop: &[&str]) -> InferRequest {
        let mut request = request(stop, Sampling::default());
        request.tools = ["f", "g"]
            .map(|name| ToolDefinition {
                name: name.into(),
                description: None,
                parameters: None,
            })
            .to_vec();
        request
    }

    /// Text, calls and end of an answer that says `text`.
    fn answer(request: &InferRequest, text: &str) -> (String, Vec<ToolCall>, FinishReason) {
        let mut g = generation(request, 1000, 1);
        let (mut said, mut calls) = (String::new(), Vec::new());
        for token in bytes(text).into_iter().chain([END]) {
            let generated = g.next(&only(token)).unwrap().unwrap();
            said.push_str(&generated.event.t);
            for piece in generated.event.calls {
                piece.add_to(&mut calls);
            }
            if let Some(reason) = generated.finish {
                return (said, calls, reason);
            }
        }
        panic!("no end");
    }

    const TWO_CALLS: &str = "So: <tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"é STOP\"}}</tool_call>\n<tool_call>{\"name\": \"g\"}</tool_call>";

    #[test]
    fn calls_are_pieces_of_tokens_and_the_reason_of_the_end() {
        let (text, calls, reason) = answer(&with_tools(&["STOP"]), TWO_CALLS);
        assert_eq!((text.as_str(), reason), ("So: ", FinishReason::ToolCalls));
        let seen: Vec<_> = calls
            .iter()
            .map(|c| (c.name.as_str(), c.arguments.as_str()))
            .collect();
        assert_eq!(seen, [("f", "{\"x\": \"é STOP\"}"), ("g", "{}")]);
        assert!(calls[0].id.len() == 9 && calls[0].id != calls[1].id);

        let mut one = with_tools(&[]);
        one.parallel_tool_calls = false;
        let (_, first, reason) = answer(&one, TWO_CALLS);
        assert_eq!((&first[..], reason), (&calls[..1], FinishReason::ToolCalls));

        for without in [
            request(&[], Sampling::default()),
            InferRequest {
                tool_choice: ToolChoice::None,
                ..with_tools(&[])
            },
        ] {
            let (text, calls, reason) = answer(&without, TWO_CALLS);
            assert_eq!((text.as_str(), reason), (TWO_CALLS, FinishReason::Stop));
            assert!(calls.is_empty());
        }
    }

    #[test]
    fn an_answer_that_must_be_a_call_ends_with_it() {
        for choice in [ToolChoice::Required, ToolChoice::Named("f".into())] {
            let mut request = with_tools(&["x"]);
            request.tool_choice = choice;
            let said = "{\"name\": \"f\", \"arguments\": {\"x\": 1}}";
            let mut g = generation(&request, 1000, 1);
            let (texts, reason) = say(&mut g, &bytes(said));
            assert_eq!(
                (texts.concat().as_str(), reason),
                ("", Some(FinishReason::ToolCalls))
            );
            // What closes the object around the arguments is not waited for.
            assert_eq!(g.count() as usize, said.len() - 1);
            // Cut off before it was certain, it is nothing.
            let mut g = generation(&request, 10, 1);
            let (texts, reason) = say(&mut g, &bytes(said));
            assert_eq!(
                (texts.concat().as_str(), reason),
                ("", Some(FinishReason::Length))
            );
        }
    }

    #[test]
    fn stop_texts_stop_outside_of_calls_only() {
        let stops = with_tools(&["x<", "STOP", "\n\n"]);
        let (text, calls, reason) = answer(&stops, &format!("{TWO_CALLS} a STOP b"));
        assert_eq!(
            (text.as_str(), reason),
            ("So:  a ", FinishReason::ToolCalls)
        );
        assert_eq!(calls.len(), 2);
        let (text, calls, reason) = answer(&stops, "wait STOP <tool_call>{\"name\": \"f\"}");
        assert_eq!((text.as_str(), reason), ("wait ", FinishReason::Stop));
        assert!(calls.is_empty());
        // Nothing of a call is the rest of a stop text that began before it.
        let (text, _, _) = answer(&stops, "x<tool_call>{\"name\": \"f\"}</tool_call>");
        assert_eq!(text, "x");
        // What looked like a call and is none may stop.
        let (text, _, reason) = answer(&stops, "<tool_call>x<");
        assert_eq!((text.as_str(), reason), ("<tool_call>", FinishReason::Stop));
    }

    #[test]
    fn a_call_that_is_cut_off_keeps_what_it_has() {
        let mut g = generation(&with_tools(&[]), 45, 1);
        let (texts, reason) = say(&mut g, &bytes(&TWO_CALLS[4..]));
        assert_eq!(
            (texts.concat().as_str(), reason),
            ("", Some(FinishReason::Length))
        );
        // Cut off before it was certain, it is text.
        let mut g = generation(&with_tools(&[]), 20, 1);
        let (texts, reason) = say(&mut g, &bytes(&TWO_CALLS[4..]));
        assert_eq!(
            (texts.concat().as_str(), reason),
            (&TWO_CALLS[4..24], Some(FinishReason::Length))
        );
    }

    #[test]
    fn an_answer_with_calls_goes_on_elsewhere_with_the_same_pieces() {
        let request = with_tools(&["STOP"]);
        let tokens: Vec<u32> = bytes(TWO_CALLS).into_iter().chain([END]).collect();
        let run = |g: &mut Generation, tokens: &[u32]| -> Vec<Generated> {
            tokens
                .iter()
                .map(|t| g.next(&only(*t)).unwrap().unwrap())
                .collect()
        };
        let whole = run(&mut generation(&request, 1000, 1), &tokens);
        for cut in 0..tokens.len() {
            let mut continued = generation(&request, 1000, 1);
            assert_eq!(continued.replay(&tokens[..cut]), None);
            assert_eq!(run(&mut continued, &tokens[cut..]), whole[cut..]);
        }
    }

    proptest! {
        /// Whatever the settings, an answer that is interrupted after any token goes on as
        /// if nothing had happened: same ids, same texts, same end.
        #[test]
        fn a_continued_answer_is_the_undisturbed_one(
            seed: u64,
            cut in 0..30_usize,
            frequency_penalty in prop_oneof![Just(0.0_f32), Just(1.0)],
            repetition_penalty in prop_oneof![Just(1.0_f32), Just(1.5)],
            temperature in prop_oneof![Just(0.0_f32), Just(1.3)],
        ) {
            let sampling = Sampling {
                temperature, frequency_penalty, repetition_penalty, ..Sampling::default()
            };
            let request = request(&["ab", "é"], sampling);
            // A small alphabet, so that stop texts, characters and the end really come.
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
            let whole = run(&mut generation(&request, 30, seed));
            let cut = cut.min(whole.len());
            let before: Vec<u32> = whole[..cut].iter().map(|g| g.event.id).collect();
            let mut continued = generation(&request, 30, seed);
            if let Some(reason) = continued.replay(&before) {
                prop_assert_eq!(whole[cut - 1].finish, Some(reason));
            } else {
                prop_assert_eq!(&run(&mut continued)[..], &whole[cut..]);
            }
        }
    }
}
