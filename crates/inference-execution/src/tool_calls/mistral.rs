//! Tool calls as Mistral models write them: `[TOOL_CALLS] [{"name": …, "arguments": …}, …]`, and
//! since version 11 of their tokenizer `[TOOL_CALLS]name[ARGS]{…}` for each call, where
//! `[CALL_ID]…` may precede `[ARGS]`, and `[ARGS]` may be missing.

use super::{
    json::{Span, is_space},
    object::{ObjectReader, Read},
    outside::Outside,
    part::{Part, append_argument},
};

const CALLS: &str = "[TOOL_CALLS]";
const ID: &str = "[CALL_ID]";
const ARGUMENTS: &str = "[ARGS]";

#[derive(Debug, Default)]
pub(crate) struct Mistral {
    outside: Outside,
    state: State,
    /// The text since the marker or the last call.
    text: String,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Outside,
    /// After the marker: a list, an object or a name follows.
    Marked,
    /// In a list, before an object.
    Item,
    /// In an object.
    Object(ObjectReader, Within),
    /// In a list, after an object.
    AfterItem,
    Name(String),
    /// In a marker between name and arguments.
    Marker(String, String),
    CallId(String),
    BeforeArguments(String),
    Arguments(Span),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    List,
    Alone,
}

impl Mistral {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, c: char, out: &mut Vec<Part>) {
        let state = std::mem::take(&mut self.state);
        if matches!(state, State::Outside) {
            return self.push_outside(c, out);
        }
        if let Some(state) = self.next(state, c, out) {
            self.state = state;
        } else {
            self.abandon_call(out);
            self.push_outside(c, out);
        }
    }

    fn push_outside(&mut self, c: char, out: &mut Vec<Part>) {
        if self.outside.push(c, &[CALLS], out).is_some() {
            CALLS.clone_into(&mut self.text);
            self.state = State::Marked;
        }
    }

    /// Returns the state after a character, or `None` if it cannot be part of a call.
    fn next(&mut self, state: State, c: char, out: &mut Vec<Part>) -> Option<State> {
        let next = match state {
            State::Marked | State::Item | State::AfterItem if is_space(c) => state,
            State::Marked if c == '[' => State::Item,
            State::Marked if c == '{' => Self::object(c, Within::Alone, out),
            State::Marked if is_name(c) => State::Name(c.to_string()),
            State::Item if c == '{' => Self::object(c, Within::List, out),
            State::Object(mut reader, within) => match reader.push(c, out) {
                Read::More => State::Object(reader, within),
                Read::Done => return Some(self.call(within)),
                Read::Broken if reader.has_begun() => {
                    self.call(within);
                    return None;
                }
                Read::Broken => return None,
            },
            State::AfterItem if c == ',' => State::Item,
            State::AfterItem if c == ']' => {
                self.text.clear();
                return Some(State::Outside);
            }
            State::Name(mut name) if is_name(c) => {
                name.push(c);
                State::Name(name)
            }
            State::Name(name) | State::CallId(name) if c == '[' => {
                State::Marker(name, c.to_string())
            }
            State::Name(name) | State::BeforeArguments(name) if c == '{' => {
                return Some(Self::begin(name, c, out));
            }
            State::CallId(name) if c.is_ascii_alphanumeric() => State::CallId(name),
            State::BeforeArguments(name) if is_space(c) => State::BeforeArguments(name),
            State::Marker(name, mut marker) => {
                marker.push(c);
                match marker.as_str() {
                    ARGUMENTS => State::BeforeArguments(name),
                    ID => State::CallId(name),
                    part if ARGUMENTS.starts_with(part) || ID.starts_with(part) => {
                        State::Marker(name, marker)
                    }
                    _ => return None,
                }
            }
            State::Arguments(mut span) => {
                let ended = span.push(c);
                append_argument(out, c);
                if ended {
                    out.push(Part::End);
                    self.call(Within::Alone);
                    return Some(State::Outside);
                }
                return Some(State::Arguments(span));
            }
            _ => return None,
        };
        self.text.push(c);
        Some(next)
    }

    fn object(c: char, within: Within, out: &mut Vec<Part>) -> State {
        let mut reader = ObjectReader::new();
        reader.push(c, out);
        State::Object(reader, within)
    }

    fn begin(name: String, c: char, out: &mut Vec<Part>) -> State {
        let mut span = Span::default();
        span.push(c);
        out.push(Part::Begin(name));
        append_argument(out, c);
        State::Arguments(span)
    }

    /// Records that a call is complete.
    fn call(&mut self, within: Within) -> State {
        self.outside.call();
        self.text.clear();
        match within {
            Within::List => State::AfterItem,
            Within::Alone => State::Outside,
        }
    }

    /// Turns what was read since the last call into text.
    fn abandon_call(&mut self, out: &mut Vec<Part>) {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() {
            self.outside.text(&text, out);
        }
    }

    pub fn finish(&mut self, out: &mut Vec<Part>) {
        match std::mem::take(&mut self.state) {
            State::Arguments(_) => self.outside.call(),
            State::Object(reader, _) if reader.has_begun() => self.outside.call(),
            // The list was not closed.
            State::AfterItem => {}
            _ => self.abandon_call(out),
        }
        self.outside.finish(out);
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.".contains(c)
}
