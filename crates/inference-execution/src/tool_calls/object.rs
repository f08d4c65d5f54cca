use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    Part,
    json::{Span, is_space},
    put_argument,
};

/// Keys that an object of a call has; one with another key is none.
const KEYS: &[&str] = &["name", "arguments", "parameters", "id", "type"];

/// What a character led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// More is to come.
    More,
    /// The object ends with it.
    Done,
    /// It does not belong to an object of a call.
    Broken,
}

/// Reads a call written as a JSON object: `{"name": "f", "arguments": {…}}`, the arguments
/// also named `parameters`, also before the name, also as a text that holds the object, also
/// not at all.
#[derive(Debug)]
pub(super) struct ObjectReader {
    state: State,
    /// The key or value that is being read, or the key whose value comes.
    key: String,
    value: String,
    name: Option<String>,
    /// Arguments that came whole.
    arguments: Option<String>,
    /// The call is certain and came out.
    begun: bool,
    /// The only functions that an object may name to be a call.
    functions: Option<Arc<[String]>>,
}

#[derive(Debug)]
enum State {
    Open,
    KeyOrEnd,
    Key(Span),
    Colon,
    Value,
    /// A text, object or array.
    Spanned(Span),
    /// Arguments that come out as they come in.
    Streamed(Span),
    /// A number, `true`, `false` or `null`.
    Bare,
    Comma,
}

impl ObjectReader {
    /// A reader of an object with marks around it.
    pub fn new() -> Self {
        Self {
            state: State::Open,
            key: String::new(),
            value: String::new(),
            name: None,
            arguments: None,
            begun: false,
            functions: None,
        }
    }

    /// A reader of an object that nothing marks as a call but what it says: it must name one
    /// of `functions`.
    pub fn unmarked(functions: Arc<[String]>) -> Self {
        Self {
            functions: Some(functions),
            ..Self::new()
        }
    }

    /// The call came out, so that nothing of its object is text any more.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Takes the next character of the object, whitespace before it included.
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
                put_argument(out, c);
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

    fn go(&mut self, state: State) -> Read {
        self.state = state;
        Read::More
    }

    fn key_ended(&mut self) -> Read {
        let known = match serde_json::from_str(&self.key) {
            Ok(Value::String(key)) => {
                self.key = key;
                KEYS.contains(&self.key.as_str())
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
        self.key == "arguments" || self.key == "parameters"
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
            put_argument(out, c);
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
        if self.key == "name" {
            match serde_json::from_str(&value) {
                Ok(Value::String(name)) if self.may_call(&name) => self.name = Some(name),
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

    fn may_call(&self, name: &str) -> bool {
        match &self.functions {
            Some(functions) => functions.iter().any(|f| f == name),
            None => !name.is_empty(),
        }
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

/// The text of the object that a value is or holds; of none, the empty one.
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
