use serde_json::Value;

use crate::{
    format::Fields,
    functions::FunctionTypes,
    json::{is_space, partial_mark},
    literal,
    part::Part,
};

/// Maximum length of a key and of what precedes its value.
const MAX_KEY_BYTES: usize = 512;

/// Reads arguments that have a mark before and after each value.
#[derive(Debug)]
pub(crate) struct FieldReader {
    syntax: &'static Fields,
    /// Text that ends the arguments.
    end: &'static str,
    name: String,
    types: FunctionTypes,
    state: State,
    /// The text of the current state.
    text: String,
    /// The current key.
    key: String,
    /// The call is certain and was returned.
    begun: bool,
    /// Number of arguments that were returned.
    count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before an argument or the end.
    Between,
    Key,
    /// Between a key and its value.
    Attributes,
    Value,
}

/// Result of a character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    More,
    /// The arguments are complete, including their end.
    Done,
    /// This text cannot be part of the arguments.
    Broken(String),
}

impl FieldReader {
    pub fn new(
        syntax: &'static Fields,
        end: &'static str,
        name: String,
        types: FunctionTypes,
    ) -> Self {
        Self {
            syntax,
            end: end.trim(),
            name,
            types,
            state: State::Between,
            text: String::new(),
            key: String::new(),
            begun: false,
            count: 0,
        }
    }

    /// Returns whether the call is certain, so that it is not text.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    pub fn push(&mut self, c: char, out: &mut Vec<Part>) -> Step {
        self.text.push(c);
        match self.state {
            State::Between => self.between(out),
            State::Key => {
                if let Some(key) = self.text.strip_suffix(self.syntax.key_end.trim()) {
                    key.trim().clone_into(&mut self.key);
                    if self.syntax.value.is_empty() {
                        self.value_begins(out);
                    } else {
                        self.go(State::Attributes);
                    }
                }
                self.limit(out)
            }
            State::Attributes => {
                if self.text.ends_with(self.syntax.value.trim()) {
                    self.value_begins(out);
                }
                self.limit(out)
            }
            State::Value => {
                if self.text.ends_with(self.syntax.close) {
                    let end = self.text.len() - self.syntax.close.len();
                    self.text.truncate(end);
                    let text = unpadded(&self.text, self.syntax.pad);
                    let value = self.types.convert(&self.key, text);
                    out.push(Part::Arguments(value));
                    self.go(State::Between);
                }
                Step::More
            }
        }
    }

    fn go(&mut self, state: State) {
        self.state = state;
        self.text.clear();
    }

    fn between(&mut self, out: &mut Vec<Part>) -> Step {
        let text = self.text.trim_start_matches(is_space);
        let open = self.syntax.open.trim();
        if text == open {
            self.go(State::Key);
        } else if text == self.end {
            self.begin(out);
            Self::end(out);
            return Step::Done;
        } else if !open.starts_with(text) && !self.end.starts_with(text) {
            return self.broken(out);
        }
        Step::More
    }

    /// Ends the arguments before a text that does not belong to them.
    fn broken(&mut self, out: &mut Vec<Part>) -> Step {
        if self.begun {
            Self::end(out);
        }
        Step::Broken(std::mem::take(&mut self.text))
    }

    fn limit(&mut self, out: &mut Vec<Part>) -> Step {
        if self.text.len() <= MAX_KEY_BYTES {
            return Step::More;
        }
        self.text.insert_str(0, self.syntax.open.trim());
        self.broken(out)
    }

    fn value_begins(&mut self, out: &mut Vec<Part>) {
        self.begin(out);
        let separator = if self.count > 0 { ", " } else { "" };
        let key = Value::from(self.key.as_str());
        out.push(Part::Arguments(format!("{separator}{key}: ")));
        self.count += 1;
        self.go(State::Value);
    }

    fn begin(&mut self, out: &mut Vec<Part>) {
        if !self.begun {
            self.begun = true;
            out.push(Part::Begin(std::mem::take(&mut self.name)));
            out.push(Part::Arguments("{".to_owned()));
        }
    }

    fn end(out: &mut Vec<Part>) {
        out.push(Part::Arguments("}".to_owned()));
        out.push(Part::End);
    }

    /// Ends an output that the model ended in the arguments. The start of a value is kept.
    /// Returns text that is neither part of a value nor complete syntax.
    pub fn finish(&mut self, out: &mut Vec<Part>) -> String {
        let text = std::mem::take(&mut self.text);
        if self.state != State::Value {
            return text;
        }
        self.start_of_value(&text, out);
        String::new()
    }

    /// Ends an output that was cut off in the arguments. The start of a value is kept.
    pub fn cut_off(&mut self, out: &mut Vec<Part>) {
        self.begin(out);
        if self.state == State::Value {
            let text = std::mem::take(&mut self.text);
            let Fields { close, pad, .. } = self.syntax;
            let text = &text[..text.len() - partial_mark(&text, close)];
            self.start_of_value(text.strip_suffix(pad).unwrap_or(text), out);
        }
    }

    /// Returns the start of a string. The start of any other value is omitted, because it is
    /// converted as a whole.
    fn start_of_value(&self, text: &str, out: &mut Vec<Part>) {
        let text = text.strip_prefix(self.syntax.pad).unwrap_or(text);
        if self.types.begins_string(&self.key, text) {
            out.push(Part::Arguments(literal::string_start(text)));
        }
    }
}

/// Removes the padding around a value.
fn unpadded<'a>(text: &'a str, pad: &str) -> &'a str {
    let text = text.strip_prefix(pad).unwrap_or(text);
    text.strip_suffix(pad).unwrap_or(text)
}
