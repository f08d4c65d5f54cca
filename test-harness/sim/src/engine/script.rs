//! What an engine answers: the last line of the user decides.
//!
//! ```text
//! say TEXT      the text
//! think TEXT    the reasoning `hm`, then the text
//! call          a call of the function `f`
//! slow          a token every 20 ms, without end
//! crash         three tokens, then the process aborts
//! fail          two tokens, then an error
//! refuse, busy, long   an error instead of a stream
//! ```

use std::{collections::VecDeque, time::Duration};

/// Ids of the control tokens. All other tokens are bytes.
pub const CONTROL: [(u32, &str); 5] = [
    (256, ""),
    (257, "<|user|>"),
    (258, "<|assistant|>"),
    (259, "<|system|>"),
    (260, "<|end|>"),
];
/// The token before every prompt.
pub const BEGIN: u32 = 256;
/// The token after every answer.
pub const END: u32 = 260;

/// A refusal before the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Invalid,
    Busy,
    TooLong,
}

/// An element of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Token {
        /// Ids of the tokens that complete the text.
        ids: Vec<u32>,
        text: String,
        reasoning: bool,
    },
    Call,
    /// The number of tokens, and whether the limit ended the answer.
    End {
        tokens: usize,
        limited: bool,
    },
    Fail,
}

/// The steps of an answer.
#[derive(Debug)]
pub struct Answer {
    steps: VecDeque<Step>,
    is_slow: bool,
    crashes: bool,
}

impl Answer {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && !self.is_slow && !self.crashes
    }

    pub fn pause(&self) -> Duration {
        if self.is_slow || self.crashes {
            Duration::from_millis(20)
        } else {
            Duration::ZERO
        }
    }

    pub fn take_step(&mut self) -> Option<Step> {
        if self.is_slow {
            return Some(token("x", false));
        }
        let step = self.steps.pop_front();
        if step.is_none() && self.crashes {
            std::process::abort();
        }
        step
    }
}

fn token(text: &str, reasoning: bool) -> Step {
    Step::Token {
        ids: text.bytes().map(u32::from).collect(),
        text: text.to_owned(),
        reasoning,
    }
}

/// Answers `instruction`, without the text that was generated before, in at most `limit` tokens.
pub fn answer(instruction: &str, before: &str, limit: Option<usize>) -> Result<Answer, Refusal> {
    let word = instruction.split(' ').next().unwrap_or_default().trim();
    let rest = instruction
        .trim()
        .strip_prefix(word)
        .unwrap_or_default()
        .trim();
    match word {
        "refuse" => return Err(Refusal::Invalid),
        "busy" => return Err(Refusal::Busy),
        "long" => return Err(Refusal::TooLong),
        _ => {}
    }
    let mut steps = VecDeque::new();
    let mut tokens = 0;
    let text = match word {
        "say" | "think" => rest,
        "slow" | "call" => "",
        "crash" => "abc",
        "fail" => "ab",
        _ => "hello",
    };
    if word == "think" {
        steps.extend(["h", "m"].map(|text| token(text, true)));
        tokens += 2;
    }
    let limit = limit.unwrap_or(usize::MAX);
    let mut limited = false;
    for c in text.strip_prefix(before).unwrap_or(text).chars() {
        if tokens + c.len_utf8() > limit {
            limited = true;
            break;
        }
        tokens += c.len_utf8();
        steps.push_back(token(&c.to_string(), false));
    }
    match word {
        "call" => {
            steps.push_back(Step::Call);
            tokens += 1;
        }
        "fail" => steps.push_back(Step::Fail),
        _ => {}
    }
    if !limited && tokens < limit && word != "fail" {
        steps.push_back(Step::Token {
            ids: vec![END],
            text: String::new(),
            reasoning: false,
        });
        tokens += 1;
    } else {
        limited = true;
    }
    if !["fail", "crash"].contains(&word) {
        steps.push_back(Step::End { tokens, limited });
    }
    let crashes = word == "crash";
    if crashes {
        steps.pop_back();
    }
    Ok(Answer {
        steps,
        is_slow: word == "slow",
        crashes,
    })
}

/// Converts a text to tokens; control tokens are found if `special`.
pub fn encode(text: &str, special: bool) -> Vec<u32> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let control = CONTROL
            .iter()
            .find(|(_, name)| special && !name.is_empty() && rest.starts_with(name));
        if let Some((id, name)) = control {
            tokens.push(*id);
            rest = &rest[name.len()..];
        } else {
            let (character, after) = rest.split_at(c.len_utf8());
            tokens.extend(character.bytes().map(u32::from));
            rest = after;
        }
    }
    tokens
}

/// Converts tokens to text.
pub fn decode(tokens: &[u32]) -> String {
    let bytes = tokens.iter().flat_map(|id| match u8::try_from(*id) {
        Ok(byte) => vec![byte],
        Err(_) => CONTROL
            .iter()
            .find(|(control, _)| control == id)
            .map_or_else(Vec::new, |(_, name)| name.as_bytes().to_vec()),
    });
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

/// Splits a prompt into the last instruction and the begun answer. Without control tokens, the
/// instruction is the first line.
pub fn split(prompt: &[u32]) -> (String, String) {
    let id_of = |name: &str| CONTROL.iter().find(|(_, n)| *n == name).map(|(id, _)| *id);
    let position = |name: &str| prompt.iter().rposition(|id| Some(*id) == id_of(name));
    match (position("<|user|>"), position("<|assistant|>")) {
        (Some(user), Some(assistant)) if user < assistant => (
            decode(&prompt[user + 1..assistant]),
            decode(&prompt[assistant + 1..]),
        ),
        _ => {
            let text = decode(prompt);
            let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
            (first.to_owned(), rest.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_bytes_and_control_tokens() {
        let text = "<|user|>é";
        assert_eq!(encode(text, true), [257, 0xc3, 0xa9]);
        assert_eq!(encode(text, false).len(), 10);
        assert_eq!(decode(&encode(text, true)), text);
    }

    #[test]
    fn an_answer_is_continued_after_what_was_generated() {
        let prompt = encode("<|user|>say abc\n<|assistant|>a", true);
        let (instruction, before) = split(&prompt);
        let mut rest = answer(&instruction, &before, None).unwrap();
        assert_eq!(rest.take_step(), Some(token("b", false)));
    }
}
