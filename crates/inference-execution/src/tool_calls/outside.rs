use super::{Part, json::is_space, put_text};

/// What is said outside of calls. Looks for the markers of calls and keeps whitespace back
/// that may do nothing but divide calls.
#[derive(Debug, Default)]
pub(super) struct Outside {
    /// The beginning of a marker, so far.
    held: String,
    /// Whitespace since the beginning or the last call.
    gap: String,
    /// There was text since the beginning or the last call.
    has_text: bool,
    has_calls: bool,
}

impl Outside {
    /// Takes a character; tells which of `markers` is complete with it. A marker has its
    /// first character nowhere else.
    pub fn push(
        &mut self,
        c: char,
        markers: &[&'static str],
        out: &mut Vec<Part>,
    ) -> Option<&'static str> {
        self.held.push(c);
        if !markers.iter().any(|m| m.starts_with(self.held.as_str())) {
            self.held.pop();
            self.release(out);
            if !markers.iter().any(|m| m.starts_with(c)) {
                self.text(c.encode_utf8(&mut [0; 4]), out);
                return None;
            }
            self.held.push(c);
        }
        let found = markers.iter().find(|m| **m == self.held).copied();
        if found.is_some() {
            self.held.clear();
        }
        found
    }

    /// Nothing but whitespace was said since the beginning or the last call.
    pub fn is_blank(&self) -> bool {
        !self.has_text && self.held.is_empty()
    }

    pub fn has_calls(&self) -> bool {
        self.has_calls
    }

    /// Puts a character to the whitespace that divides calls.
    pub fn divider(&mut self, c: char) {
        self.gap.push(c);
    }

    /// A call was read.
    pub fn call(&mut self) {
        self.gap.clear();
        self.has_text = false;
        self.has_calls = true;
    }

    /// Takes text that is no marker.
    pub fn text(&mut self, text: &str, out: &mut Vec<Part>) {
        if !self.has_text && text.chars().all(is_space) {
            self.gap.push_str(text);
            return;
        }
        self.has_text = true;
        put_text(out, &std::mem::take(&mut self.gap));
        put_text(out, text);
    }

    /// The beginning of a marker that did not go on is text.
    fn release(&mut self, out: &mut Vec<Part>) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            self.text(&held, out);
        }
    }

    /// Ends the answer. An answer of nothing but whitespace keeps it.
    pub fn finish(&mut self, out: &mut Vec<Part>) {
        self.release(out);
        if !self.has_calls {
            put_text(out, &std::mem::take(&mut self.gap));
        }
    }
}
