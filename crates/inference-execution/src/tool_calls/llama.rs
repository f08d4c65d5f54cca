//! Tool calls of the form `{"name": …, "parameters": …}`, which are the complete output or
//! follow `<|python_tag|>`. Several calls are separated by `;`. Llama 3.1 and later write it.

use std::sync::Arc;

use super::{
    object::{ObjectReader, Read},
    outside::Outside,
    part::Part,
};

const TAG: &str = "<|python_tag|>";

#[derive(Debug)]
pub(crate) struct Llama {
    outside: Outside,
    /// The call that is being read, and its text while the call is not certain.
    inside: Option<(ObjectReader, String)>,
    functions: Arc<[String]>,
}

impl Llama {
    pub fn new(functions: Arc<[String]>) -> Self {
        Self {
            outside: Outside::default(),
            inside: None,
            functions,
        }
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
        // An object that follows text is part of the text.
        if c == '{' && self.outside.is_blank() {
            let mut reader = ObjectReader::unmarked(Arc::clone(&self.functions));
            reader.push(c, out);
            self.inside = Some((reader, c.to_string()));
        } else if c == ';' && self.outside.is_blank() && self.outside.has_calls() {
            self.outside.push_separator(c);
        } else if self.outside.push(c, &[TAG], out).is_some() {
            self.inside = Some((ObjectReader::new(), TAG.to_owned()));
        }
    }

    /// Leaves the object that was being read, which was a call or text.
    fn leave(&mut self, out: &mut Vec<Part>) {
        if let Some((reader, text)) = self.inside.take() {
            if reader.has_begun() {
                self.outside.call();
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
