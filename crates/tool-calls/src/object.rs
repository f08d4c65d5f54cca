use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{
    functions::Functions,
    json::{Span, is_space},
    part::{Part, append_argument},
};

/// Keys of the name of the function.
const NAMES: &[&str] = &["name", "tool_name"];
/// Keys of the arguments.
const ARGUMENTS: &[&str] = &["arguments", "parameters"];
/// Further keys that the object of a call may have.
const OTHERS: &[&str] = &["id", "type", "tool_call_id"];
/// Length of the longest escape in a JSON string, a pair of surrogates.
const MAX_ESCAPE: usize = "\\ud83d\\udc1d".len();

/// Result of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// The object continues.
    More,
    /// The object is complete.
    Done,
    /// The character cannot be part of the object of a call.
    Broken,
}

/// Reads a call that is a JSON object such as `{"name": "f", "arguments": {…}}`. The arguments may
/// be named `parameters`, precede the name, be a string that contains the object, or be missing.
#[derive(Debug)]
pub(crate) struct ObjectReader {
    state: State,
    /// The current key, as far as it is read.
    key: String,
    /// The current value, as far as it is read.
    value: String,
    name: Option<String>,
    /// Arguments that were not streamed.
    arguments: Option<String>,
    /// The call is certain and was returned.
    begun: bool,
    /// Functions that may be called.
    functions: Arc<Functions>,
}

#[derive(Debug)]
enum State {
    Open,
    KeyOrEnd,
    Key(Span),
    Colon,
    Value,
    /// In a string, object or array.
    Spanned(Span),
    /// In arguments that are returned as they arrive.
    Streamed(Span),
    /// In a number, `true`, `false` or `null`.
    Bare,
    Comma,
}

impl ObjectReader {
    /// Returns a reader of a call of one of `functions`.
    pub fn new(functions: Arc<Functions>) -> Self {
        Self {
            state: State::Open,
            key: String::new(),
            value: String::new(),
            name: None,
            arguments: None,
            begun: false,
            functions,
        }
    }

    /// Returns whether the call is certain, so that its object is not text.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Processes the next character of the object or of the whitespace before it.
    pub fn push(&mut self, c: char, out: &mut Vec<Part>) -> Read {
        match &mut self.state {
            State::Open if is_space(c) => Read::More,
            State::Open if c == '{' => self.go(State::KeyOrEnd),
            State::KeyOrEnd | State::Colon | State::Value | State::Comma if is_space(c) => {
                Read::More
            }
            State::KeyOrEnd if c == '"' => {
                self.key.clear();
                self.key.push(c);
                let mut span = Span::default();
                span.push(c);
                self.go(State::Key(span))
            }
            State::KeyOrEnd | State::Comma if c == '}' => self.end(out),
            State::Key(span) => {
                self.key.push(c);
                if span.push(c) {
                    return self.key_ended();
                }
                Read::More
            }
            State::Colon if c == ':' => self.go(State::Value),
            State::Value => self.value_begins(c, out),
            State::Spanned(span) => {
                self.value.push(c);
                if span.push(c) {
                    return self.value_ended();
                }
                Read::More
            }
            State::Streamed(span) => {
                let ended = span.push(c);
                append_argument(out, c);
                if ended {
                    out.push(Part::End);
                    return self.go(State::Comma);
                }
                Read::More
            }
            State::Bare if c == ',' || c == '}' || is_space(c) => match self.value_ended() {
                Read::More => self.push(c, out),
                read => read,
            },
            State::Bare if c.is_ascii_alphanumeric() || "+-.".contains(c) => {
                self.value.push(c);
                Read::More
            }
            State::Comma if c == ',' => self.go(State::KeyOrEnd),
            _ => Read::Broken,
        }
    }

    /// Ends an output that was cut off in the object. A call whose function is known keeps its
    /// arguments so far.
    pub fn cut_off(mut self, out: &mut Vec<Part>) {
        if self.begun {
            return;
        }
        if let State::Bare | State::Spanned(_) = self.state
            && self.is_arguments()
        {
            self.arguments = Some(string_so_far(&self.value));
        }
        if let Some(name) = self.name {
            let arguments = self.arguments.filter(|text| text.starts_with('{'));
            let arguments = arguments.unwrap_or_else(|| "{".to_owned());
            out.extend([Part::Begin(name), Part::Arguments(arguments)]);
        }
    }

    fn go(&mut self, state: State) -> Read {
        self.state = state;
        Read::More
    }

    fn key_ended(&mut self) -> Read {
        let known = match serde_json::from_str(&self.key) {
            Ok(Value::String(key)) => {
                self.key = key;
                [NAMES, ARGUMENTS, OTHERS]
                    .iter()
                    .any(|keys| keys.contains(&self.key.as_str()))
            }
            _ => false,
        };
        if known || self.begun {
            self.go(State::Colon)
        } else {
            Read::Broken
        }
    }

    fn is_arguments(&self) -> bool {
        ARGUMENTS.contains(&self.key.as_str())
    }

    fn value_begins(&mut self, c: char, out: &mut Vec<Part>) -> Read {
        let mut span = Span::default();
        span.push(c);
        if c == '{'
            && !self.begun
            && self.is_arguments()
            && let Some(name) = self.name.take()
        {
            self.begun = true;
            out.push(Part::Begin(name));
            append_argument(out, c);
            return self.go(State::Streamed(span));
        }
        self.value.clear();
        self.value.push(c);
        match c {
            '"' | '{' | '[' => self.go(State::Spanned(span)),
            '-' | '0'..='9' | 't' | 'f' | 'n' => self.go(State::Bare),
            _ => Read::Broken,
        }
    }

    fn value_ended(&mut self) -> Read {
        if self.begun {
            return self.go(State::Comma);
        }
        let value = std::mem::take(&mut self.value);
        if NAMES.contains(&self.key.as_str()) {
            match serde_json::from_str(&value) {
                Ok(Value::String(name)) if self.functions.contains(&name) => self.name = Some(name),
                _ => return Read::Broken,
            }
        } else if self.is_arguments() {
            match object_text(value) {
                Some(arguments) => self.arguments = Some(arguments),
                None => return Read::Broken,
            }
        }
        self.go(State::Comma)
    }

    fn end(&mut self, out: &mut Vec<Part>) -> Read {
        if self.begun {
            return Read::Done;
        }
        let Some(name) = self.name.take() else {
            return Read::Broken;
        };
        self.begun = true;
        let none = || "{}".to_owned();
        out.push(Part::Begin(name));
        out.push(Part::Arguments(self.arguments.take().unwrap_or_else(none)));
        out.push(Part::End);
        Read::Done
    }
}

/// Returns the text of a JSON string that was cut off, without an incomplete escape at its end.
fn string_so_far(json: &str) -> String {
    let ends = json.char_indices().rev().map(|(at, _)| at);
    let starts = std::iter::once(json.len()).chain(ends).take(MAX_ESCAPE);
    let mut complete = starts.map(|end| format!("{}\"", &json[..end]));
    let text = complete.find_map(|json| serde_json::from_str(&json).ok());
    text.unwrap_or_default()
}

/// Returns the object that a JSON value is, or that it contains as a string. A missing object is
/// `{}`.
fn object_text(value: String) -> Option<String> {
    let is_object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).is_ok();
    if is_object(&value) {
        return Some(value);
    }
    match serde_json::from_str(&value) {
        Ok(Value::Null) => Some("{}".to_owned()),
        Ok(Value::String(text)) if text.trim().is_empty() => Some("{}".to_owned()),
        Ok(Value::String(text)) if is_object(&text) => Some(text),
        _ => None,
    }
}
