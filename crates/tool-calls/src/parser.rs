use std::sync::Arc;

use crate::{
    fields::{FieldReader, Step},
    format::{Arguments, Call, ToolFormat},
    functions::Functions,
    head::{self, Head, Position, Start},
    json::{Span, is_space},
    literal::{self, Extent, Quotes},
    object::{ObjectReader, Read},
    outside::Outside,
    part::{Part, append_argument, append_text},
};

/// Splits the output of a model into text and tool calls.
#[derive(Debug)]
pub struct ToolCallParser {
    format: &'static ToolFormat,
    functions: Arc<Functions>,
    outside: Outside,
    state: State,
    position: Position,
    /// What was read since the mark or the last call. It becomes text if it is not a call.
    text: String,
}

#[derive(Debug)]
enum State {
    Outside,
    /// Before, between or after calls; the text so far.
    Head(String),
    Object(ObjectReader),
    /// In a JSON object with arguments.
    Json(Span),
    Fields(Box<FieldReader>),
    /// In arguments that are converted when they are complete.
    Literal {
        name: String,
        extent: Extent,
        arguments: String,
        quotes: Quotes,
    },
}

impl ToolCallParser {
    /// Returns a parser for output that may call these functions.
    pub fn new(format: &'static ToolFormat, functions: Arc<Functions>) -> Self {
        let state = if format.layout.prefilled {
            State::Head(String::new())
        } else {
            State::Outside
        };
        Self {
            format,
            functions,
            outside: Outside::default(),
            state,
            position: Position::default(),
            text: String::new(),
        }
    }

    /// Parses more text and returns the parts that became certain.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        for c in text.chars() {
            self.push_char(c, &mut parts);
        }
        parts
    }

    /// Ends an output that the model ended. Text that is held back and is not certain to be a
    /// call becomes text.
    pub fn finish(&mut self) -> Vec<Part> {
        let out = &mut Vec::new();
        match std::mem::replace(&mut self.state, State::Outside) {
            State::Outside => {}
            State::Head(head) if self.position.after_call => {
                let is_syntax = |c| is_space(c) || ",;".contains(c);
                if !head.chars().all(is_syntax) {
                    self.outside.text(&head, out);
                }
            }
            State::Head(head) => {
                self.text.push_str(&head);
                self.abandon(out);
            }
            State::Object(reader) if reader.has_begun() => self.outside.call(),
            State::Json(_) => self.outside.call(),
            State::Fields(mut reader) if reader.has_begun() => {
                self.outside.call();
                let rest = reader.finish(out);
                if !rest.trim().is_empty() {
                    append_text(out, &rest);
                }
            }
            State::Object(_) | State::Fields(_) | State::Literal { .. } => self.abandon(out),
        }
        self.outside.finish(out);
        std::mem::take(out)
    }

    /// Ends an output that was cut off. A call whose function is known keeps its arguments so
    /// far, at least their opening brace. Other text that is held back is syntax of a call that
    /// is incomplete, and is dropped.
    pub fn cut_off(&mut self) -> Vec<Part> {
        let out = &mut Vec::new();
        let state = std::mem::replace(&mut self.state, State::Outside);
        match state {
            State::Outside if self.outside.is_certain() => {
                self.outside.finish(out);
            }
            State::Outside | State::Json(_) => {}
            State::Head(head) => {
                let read = head::read(self.format, self.position, &self.functions, &head);
                if let Head::More(Some(name)) = read {
                    out.extend([Part::Begin(name), Part::Arguments("{".to_owned())]);
                }
            }
            State::Object(reader) => reader.cut_off(out),
            State::Fields(mut reader) => reader.cut_off(out),
            State::Literal {
                name,
                arguments,
                quotes,
                ..
            } => {
                let json = literal::partial(&arguments, quotes);
                out.extend([Part::Begin(name), Part::Arguments(json)]);
            }
        }
        std::mem::take(out)
    }

    fn push_char(&mut self, c: char, out: &mut Vec<Part>) {
        match std::mem::replace(&mut self.state, State::Outside) {
            State::Outside => self.push_outside(c, out),
            State::Head(mut head) => {
                head.push(c);
                self.read_head(head, out);
            }
            State::Object(mut reader) => match reader.push(c, out) {
                Read::More => {
                    if !reader.has_begun() {
                        self.text.push(c);
                    }
                    self.state = State::Object(reader);
                }
                Read::Done => self.call_ended(0),
                Read::Broken if reader.has_begun() => {
                    self.call_ended(0);
                    self.push_char(c, out);
                }
                Read::Broken => {
                    self.abandon(out);
                    self.push_outside(c, out);
                }
            },
            State::Json(mut span) => {
                let ended = span.push(c);
                append_argument(out, c);
                if ended {
                    out.push(Part::End);
                    self.call_ended(0);
                } else {
                    self.state = State::Json(span);
                }
            }
            State::Fields(reader) => self.push_field(reader, c, out),
            State::Literal {
                name,
                mut extent,
                mut arguments,
                quotes,
            } => {
                self.text.push(c);
                if !extent.push(c) {
                    arguments.push(c);
                    self.state = State::Literal {
                        name,
                        extent,
                        arguments,
                        quotes,
                    };
                    return;
                }
                match literal::arguments(&arguments, quotes).filter(|_| c == quotes.closing()) {
                    Some(json) => {
                        out.extend([Part::Begin(name), Part::Arguments(json), Part::End]);
                        self.call_ended(0);
                    }
                    None => self.abandon(out),
                }
            }
        }
    }

    fn push_field(&mut self, mut reader: Box<FieldReader>, c: char, out: &mut Vec<Part>) {
        match reader.push(c, out) {
            Step::More => {
                if !reader.has_begun() {
                    self.text.push(c);
                }
                self.state = State::Fields(reader);
            }
            Step::Done => self.call_ended(1),
            Step::Broken(rest) if reader.has_begun() => {
                self.call_ended(0);
                self.push_all(&rest, out);
            }
            Step::Broken(_) => {
                self.abandon(out);
                self.push_outside(c, out);
            }
        }
    }

    fn push_all(&mut self, text: &str, out: &mut Vec<Part>) {
        for c in text.chars() {
            self.push_char(c, out);
        }
    }

    fn push_outside(&mut self, c: char, out: &mut Vec<Part>) {
        // A call without a mark that follows text is part of the text.
        if self.format.layout.unmarked == Some(c) && self.outside.is_blank() {
            self.position = Position::default();
            self.text.clear();
            self.read_head(c.to_string(), out);
        } else if let Some(mark) = self.outside.push(c, self.format.marks, out) {
            self.marked(mark);
        }
    }

    fn marked(&mut self, text: &str) {
        self.position = Position::default();
        text.clone_into(&mut self.text);
        self.state = State::Head(String::new());
    }

    fn read_head(&mut self, head: String, out: &mut Vec<Part>) {
        match head::read(self.format, self.position, &self.functions, &head) {
            Head::More(_) => self.state = State::Head(head),
            Head::Other if self.position.after_call => self.push_rest(&head, out),
            Head::Other => {
                self.abandon(out);
                self.push_rest(&head, out);
            }
            Head::Call(start) => self.call_begins(start, &head, out),
            Head::Mark => self.marked(&head),
            Head::Passed(passed) => {
                self.position.passed = passed;
                self.state = State::Head(String::new());
            }
            Head::Close | Head::Text => {}
        }
    }

    /// Reads what turned out not to be a head. Its first character is text, because it would be
    /// read in the same way again.
    fn push_rest(&mut self, head: &str, out: &mut Vec<Part>) {
        let mut chars = head.chars();
        if let Some(first) = chars.next() {
            if self.format.layout.unmarked == Some(first) && !self.position.after_call {
                self.outside.text(first.encode_utf8(&mut [0; 4]), out);
            } else {
                self.push_outside(first, out);
            }
        }
        self.push_all(chars.as_str(), out);
    }

    fn call_begins(&mut self, start: Start, head: &str, out: &mut Vec<Part>) {
        self.position.in_list = start.in_list;
        let (used, rest) = head.split_at(start.used);
        let Call::Named { arguments, end, .. } = start.syntax else {
            let mut reader = ObjectReader::new(Arc::clone(&self.functions));
            reader.push('{', out);
            self.text.push_str(used);
            self.state = State::Object(reader);
            return self.push_all(rest, out);
        };
        self.text.push_str(used);
        let name = start.name;
        self.state = match arguments {
            Arguments::Json => {
                let mut span = Span::default();
                span.push('{');
                out.push(Part::Begin(name));
                append_argument(out, '{');
                State::Json(span)
            }
            Arguments::Fields(syntax) => {
                let types = self.functions.types(&name);
                let end = end.first().copied().unwrap_or_default();
                State::Fields(Box::new(FieldReader::new(syntax, end, name, types)))
            }
            Arguments::Python | Arguments::Gemma => {
                let quotes = match arguments {
                    Arguments::Gemma => Quotes::Gemma,
                    _ => Quotes::Python,
                };
                State::Literal {
                    name,
                    extent: Extent::new(quotes),
                    arguments: String::new(),
                    quotes,
                }
            }
        };
        self.push_all(rest, out);
    }

    /// Records that a call is complete, after `passed` of the texts that follow it.
    fn call_ended(&mut self, passed: usize) {
        self.outside.call();
        self.text.clear();
        self.position.after_call = true;
        self.position.passed = passed;
        self.state = State::Head(String::new());
    }

    /// Turns what was read since the mark into text.
    fn abandon(&mut self, out: &mut Vec<Part>) {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() {
            self.outside.text(&text, out);
        }
    }
}
