//! Tool calls of the form `<tool_call>{"name": …, "arguments": …}</tool_call>`, repeated for
//! several calls. Models trained like Hermes 2 Pro write it, Qwen 2.5 and 3 among them.

use super::{
    object::{ObjectReader, Read},
    outside::Outside,
    part::Part,
};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

#[derive(Debug, Default)]
pub(crate) struct Hermes {
    outside: Outside,
    /// The call that is being read, and its text while the call is not certain.
    inside: Option<(ObjectReader, String)>,
    /// A closing tag is expected.
    closing: bool,
}

impl Hermes {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, c: char, out: &mut Vec<Part>) {
        let Some((reader, text)) = &mut self.inside else {
            return self.push_outside(c, out);
        };
        match reader.push(c, out) {
            Read::More => {
                text.push(c);
            }
            Read::Done => {
                self.leave(out);
            }
            Read::Broken => {
                self.leave(out);
                self.push_outside(c, out);
            }
        }
    }

    fn push_outside(&mut self, c: char, out: &mut Vec<Part>) {
        let markers: &[&'static str] = if self.closing {
            &[OPEN, CLOSE]
        } else {
            &[OPEN]
        };
        match self.outside.push(c, markers, out) {
            Some(OPEN) => {
                self.closing = false;
                self.inside = Some((ObjectReader::new(), OPEN.to_owned()));
            }
            Some(_) => self.closing = false,
            None => {}
        }
    }

    /// Leaves the object that was being read, which was a call or text.
    fn leave(&mut self, out: &mut Vec<Part>) {
        if let Some((reader, text)) = self.inside.take() {
            if reader.has_begun() {
                self.outside.call();
                self.closing = true;
            } else {
                self.outside.text(&text, out);
            }
        }
    }

    pub fn finish(&mut self, out: &mut Vec<Part>) {
        self.leave(out);
        self.outside.finish(out);
    }
}
