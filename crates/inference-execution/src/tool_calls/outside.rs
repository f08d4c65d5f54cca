use super::{
    json::is_space,
    part::{Part, append_text},
};

/// The text outside of tool calls. Finds the markers of calls and holds back whitespace that may
/// only separate calls.
#[derive(Debug, Default)]
pub(super) struct Outside {
    /// Possible start of a marker.
    held: String,
    /// Whitespace since the start or the last call.
    gap: String,
    /// There was text since the start or the last call.
    has_text: bool,
    has_calls: bool,
}

impl Outside {
    /// Processes a character. Returns the marker that it completes. The first character of a
    /// marker must not occur in it again.
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

    /// Returns whether there was only whitespace since the start or the last call.
    pub fn is_blank(&self) -> bool {
        !self.has_text && self.held.is_empty()
    }

    pub fn has_calls(&self) -> bool {
        self.has_calls
    }

    /// Appends a separator between calls.
    pub fn push_separator(&mut self, c: char) {
        self.gap.push(c);
    }

    /// Records that a call is complete.
    pub fn call(&mut self) {
        self.gap.clear();
        self.has_text = false;
        self.has_calls = true;
    }

    /// Appends text that is not a marker.
    pub fn text(&mut self, text: &str, out: &mut Vec<Part>) {
        if !self.has_text && text.chars().all(is_space) {
            self.gap.push_str(text);
            return;
        }
        self.has_text = true;
        append_text(out, &std::mem::take(&mut self.gap));
        append_text(out, text);
    }

    /// Turns an incomplete marker into text.
    fn release(&mut self, out: &mut Vec<Part>) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            self.text(&held, out);
        }
    }

    /// Ends the output. Whitespace is kept if there were no calls.
    pub fn finish(&mut self, out: &mut Vec<Part>) {
        self.release(out);
        if !self.has_calls {
            append_text(out, &std::mem::take(&mut self.gap));
        }
    }
}
