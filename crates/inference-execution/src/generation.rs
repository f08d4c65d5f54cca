//! One answer: from logits to token events, until it ends.

use std::sync::Arc;

use text_codec::{Codec, Utf8Stream};
use worker_contract::{FinishReason, InferRequest, TokenEvent, TokenLogprob, TopLogprob};

use crate::{Sampler, StopMatcher, admission::Admitted, sampler::logprob};

/// The state of an answer between two tokens.
pub struct Generation {
    codec: Arc<Codec>,
    sampler: Sampler,
    utf8: Utf8Stream,
    stops: StopMatcher,
    max_tokens: u32,
    logprobs: Option<u8>,
    /// Tokens of the answer so far.
    count: u32,
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
            codec,
            sampler: Sampler::new(request.sampling.clone(), seed, &admitted.prompt),
            utf8: Utf8Stream::default(),
            stops: StopMatcher::new(request.stop.clone()),
            max_tokens: admitted.max_tokens,
            logprobs: request.logprobs,
            count: 0,
        }
    }

    /// Tokens of the answer so far, those generated elsewhere included.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Takes tokens that were generated elsewhere as if they had been chosen here, without
    /// events. A reason means that the answer was complete already.
    pub fn replay(&mut self, tokens: &[u32]) -> Option<FinishReason> {
        tokens.iter().find_map(|token| self.accept(*token).1)
    }

    /// Chooses the next token; `None` when the logits allow none.
    pub fn next(&mut self, logits: &[f32]) -> Option<Generated> {
        let i = self.count;
        let id = self.sampler.choose(logits, i)?;
        let logprob = self.logprobs.map(|top| self.logprob(logits, id, top));
        let (t, finish) = self.accept(id);
        Some(Generated {
            event: TokenEvent {
                i,
                t,
                id,
                calls: Vec::new(),
                logprob,
            },
            finish,
        })
    }

    /// Counts a token in; its final text, and the reason if it ends the answer.
    fn accept(&mut self, id: u32) -> (String, Option<FinishReason>) {
        self.count += 1;
        self.sampler.note(id);
        let is_end = self.codec.end_tokens().contains(&id);
        let piece = if is_end {
            String::new()
        } else {
            self.utf8.push(self.codec.token_bytes(id))
        };
        let pushed = self.stops.push(&piece);
        let mut text = pushed.text;
        if pushed.stopped {
            return (text, Some(FinishReason::Stop));
        }
        let finish = if is_end {
            FinishReason::Stop
        } else if self.count >= self.max_tokens {
            FinishReason::Length
        } else {
            return (text, None);
        };
        // Nothing follows, so what was held back is final now.
        let rest = self.stops.push(&self.utf8.flush());
        text.push_str(&rest.text);
        if rest.stopped {
            return (text, Some(FinishReason::Stop));
        }
        text.push_str(&self.stops.flush());
        (text, Some(finish))
    }

    fn logprob(&self, logits: &[f32], id: u32, top: u8) -> TokenLogprob {
        let of = logprob(logits, id, usize::from(top));
        TokenLogprob {
            logprob: of.chosen,
            top: of
                .top
                .into_iter()
                .map(|(id, logprob)| TopLogprob {
                    id,
                    token: self.codec.token_text(id),
                    logprob,
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use worker_contract::{InferInput, Sampling};

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
            let generated = generation.next(&only(*token)).unwrap();
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
        let said: Vec<u32> = (0..2).map(|_| g.next(&logits).unwrap().event.id).collect();
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
        let event = generation(&wanted, 9, 1).next(&logits).unwrap().event;
        let logprob = event.logprob.unwrap();
        assert!((logprob.logprob - 0.75_f32.ln()).abs() < 1e-6);
        let top: Vec<_> = logprob
            .top
            .iter()
            .map(|t| (t.id, t.token.as_str()))
            .collect();
        assert_eq!(top, [(97, "a"), (256, "<|end|>")]);
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
                    let generated = g.next(&logits(g.count())).unwrap();
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
