//! The format of gpt-oss: messages with headers. Format:
//! <https://cookbook.openai.com/articles/openai-harmony>.

use std::{borrow::Cow, mem};

use crate::phase::{Phase, Start, partial_mark};

const START: &str = "<|start|>";
pub(crate) const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
pub(crate) const END: &str = "<|end|>";
/// Channel of the reasoning.
pub(crate) const ANALYSIS: &str = "analysis";
const FINAL: &str = "final";
/// Ends reasoning and begins the answer.
pub(crate) const TO_FINAL: &str = "<|end|><|start|>assistant<|channel|>final<|message|>";
/// All special tokens of the format that do not end the output.
pub(crate) const MARKS: [&str; 5] = [START, CHANNEL, MESSAGE, END, "<|constrain|>"];
/// Marks that end a message.
const ENDS: [&str; 3] = [END, START, CHANNEL];
/// Maximum length of a header. Longer text is not a header.
const MAX_HEADER_BYTES: usize = 256;
/// Separator of two parts of the answer.
const SEPARATOR: &str = "\n\n";

/// Returns where the output begins after a prompt that ends with `end`.
pub(crate) fn start(end: &str) -> Start {
    let Some(header) = end.strip_suffix(MESSAGE) else {
        return Start::Undecided;
    };
    match header.rsplit(CHANNEL).next() {
        Some(ANALYSIS) => Start::Reasoning,
        Some(FINAL) => Start::Answer,
        _ => Start::Undecided,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first header, whose beginning is in the prompt.
    First,
    /// In a header, up to [`MESSAGE`].
    Header,
    /// After a message.
    Between,
    Analysis,
    /// Text that precedes calls.
    Preamble,
    /// A message to a function, which is passed on with its header.
    Call,
    Final,
}

/// Splits an output by its channels.
#[derive(Debug, Clone)]
pub(crate) struct Harmony {
    state: State,
    held: String,
    /// The answer has text that a further part is separated from.
    has_answer: bool,
}

impl Harmony {
    pub fn new(start: Start) -> Self {
        Self {
            state: match start {
                Start::Undecided => State::First,
                Start::Reasoning => State::Analysis,
                Start::Answer => State::Final,
            },
            held: String::new(),
            has_answer: false,
        }
    }

    pub fn phase(&self) -> Phase {
        match self.state {
            State::First => Phase::Start,
            State::Analysis => Phase::Reasoning,
            State::Final => Phase::Answer,
            State::Header | State::Between | State::Preamble | State::Call => Phase::Between,
        }
    }

    pub fn push<'a>(&mut self, text: &'a str, reasoning: &mut String) -> Cow<'a, str> {
        let is_plain = self.state == State::Final && self.held.is_empty() && self.has_answer;
        if is_plain && !text.contains('<') {
            return Cow::Borrowed(text);
        }
        self.held.push_str(text);
        let mut answer = String::new();
        while self.step(reasoning, &mut answer) {}
        Cow::Owned(answer)
    }

    pub fn finish(&mut self, reasoning: &mut String) -> String {
        let rest = mem::take(&mut self.held);
        match self.state {
            State::Analysis => {
                reasoning.push_str(&rest);
                String::new()
            }
            // A header that was cut off is not text.
            State::Header => String::new(),
            State::First | State::Between | State::Preamble | State::Call | State::Final => rest,
        }
    }

    pub fn cut_off(&mut self) -> String {
        let header = mem::take(&mut self.held);
        let is_call = self.state == State::Header && has_recipient(&header);
        if is_call { header } else { String::new() }
    }

    /// Processes the held text up to the next change of state. Returns `false` if more text is
    /// needed.
    fn step(&mut self, reasoning: &mut String, answer: &mut String) -> bool {
        match self.state {
            State::First => self.first(),
            State::Header => self.header(answer),
            State::Between => self.between(),
            State::Analysis => self.message(reasoning),
            State::Preamble | State::Final => {
                let before = answer.len();
                let changed = self.message(answer);
                self.has_answer |= answer.len() > before;
                changed
            }
            State::Call => self.call(answer),
        }
    }

    /// The output begins with the rest of a header, or is text without channels.
    fn first(&mut self) -> bool {
        let begins = [CHANNEL, START, MESSAGE, " to="];
        if begins.iter().any(|mark| self.held.starts_with(mark)) {
            self.state = State::Header;
            return true;
        }
        if begins.iter().any(|mark| mark.starts_with(&self.held)) {
            return false;
        }
        self.state = State::Final;
        true
    }

    fn between(&mut self) -> bool {
        if self.held.starts_with(START) || self.held.starts_with(CHANNEL) {
            self.state = State::Header;
            return true;
        }
        if START.starts_with(&self.held) || CHANNEL.starts_with(&self.held) {
            return false;
        }
        self.state = State::Final;
        true
    }

    fn header(&mut self, answer: &mut String) -> bool {
        let limit = self.held.floor_char_boundary(MAX_HEADER_BYTES);
        let Some(at) = self.held[..limit].find(MESSAGE) else {
            if self.held.len() < MAX_HEADER_BYTES {
                return false;
            }
            // Not a header: its mark is text.
            let mark = ENDS.iter().find(|mark| self.held.starts_with(**mark));
            answer.extend(self.held.drain(..mark.map_or(0, |mark| mark.len())));
            self.has_answer = true;
            self.state = State::Final;
            return true;
        };
        let header = &self.held[..at];
        self.state = if has_recipient(header) {
            State::Call
        } else {
            match channel(header) {
                ANALYSIS => State::Analysis,
                FINAL | "" => State::Final,
                _ => State::Preamble,
            }
        };
        let end = at + MESSAGE.len();
        if self.state == State::Call {
            answer.push_str(&self.held[..end]);
        } else if self.state != State::Analysis && self.has_answer {
            answer.push_str(SEPARATOR);
        }
        self.held.drain(..end);
        true
    }

    /// Moves the text of a message to `out`. Returns `true` at its end.
    fn message(&mut self, out: &mut String) -> bool {
        let found = first_mark(&self.held);
        let end = found.map_or_else(|| self.certain(), |(at, _)| at);
        out.extend(self.held.drain(..end));
        let Some((_, mark)) = found else {
            return false;
        };
        self.end_message(mark);
        true
    }

    /// Moves a call to `out`, with its end.
    fn call(&mut self, out: &mut String) -> bool {
        let found = first_mark(&self.held);
        let end = match found {
            Some((at, END)) => at + END.len(),
            Some((at, _)) => at,
            None => self.certain(),
        };
        out.extend(self.held.drain(..end));
        if found.is_some() {
            self.state = State::Between;
        }
        found.is_some()
    }

    fn end_message(&mut self, mark: &str) {
        if mark == END {
            self.held.drain(..END.len());
        }
        self.state = State::Between;
    }

    /// Returns how much of the held text cannot be the beginning of a mark.
    fn certain(&self) -> usize {
        let partial = ENDS.iter().map(|mark| partial_mark(&self.held, mark));
        self.held.len() - partial.max().unwrap_or(0)
    }
}

/// Returns the first mark that ends a message, with its position.
fn first_mark(text: &str) -> Option<(usize, &'static str)> {
    let found = ENDS
        .iter()
        .filter_map(|mark| Some((text.find(mark)?, *mark)));
    found.min()
}

/// Whether a header addresses a function: `to=functions.weather`.
fn has_recipient(header: &str) -> bool {
    header
        .split(|c: char| c.is_whitespace() || c == '<' || c == '>')
        .any(|word| word.starts_with("to=") && word != "to=assistant")
}

/// Returns the channel that a header names, or an empty text.
fn channel(header: &str) -> &str {
    let after = header.rsplit_once(CHANNEL).map_or("", |(_, after)| after);
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_');
    &after[..end.unwrap_or(after.len())]
}
