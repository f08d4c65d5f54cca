use crate::{
    json::is_space,
    part::{Part, append_text},
};

/// The text outside of tool calls. Finds the marks of calls and holds back whitespace that may
/// only separate calls.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    /// Possible start of a mark.
    held: String,
    /// Whitespace since the start or the last call.
    gap: String,
    /// There was text since the start or the last call.
    has_text: bool,
    has_calls: bool,
}

impl Outside {
    /// Processes a character. Returns the mark that it completes.
    pub fn push(
        &mut self,
        c: char,
        marks: &[&'static str],
        out: &mut Vec<Part>,
    ) -> Option<&'static str> {
        if self.held.is_empty() && !marks.iter().any(|m| m.starts_with(c)) {
            self.text(c.encode_utf8(&mut [0; 4]), out);
            return None;
        }
        self.held.push(c);
        if let Some(mark) = marks.iter().find(|m| **m == self.held) {
            self.held.clear();
            return Some(mark);
        }
        // What cannot continue to a mark becomes text, character by character, because a mark may
        // begin within what looked like another one.
        let held = std::mem::take(&mut self.held);
        let starts = held.char_indices().map(|(at, _)| at);
        let is_start = |at: &usize| marks.iter().any(|m| m.starts_with(&held[*at..]));
        let kept = starts.into_iter().find(is_start).unwrap_or(held.len());
        if kept > 0 {
            self.text(&held[..kept], out);
        }
        self.held.push_str(&held[kept..]);
        None
    }

    /// Returns whether there was only whitespace since the start or the last call.
    pub fn is_blank(&self) -> bool {
        !self.has_text && self.held.is_empty()
    }

    /// Returns whether no mark has begun.
    pub fn is_certain(&self) -> bool {
        self.held.is_empty()
    }

    /// Records that a call is complete.
    pub fn call(&mut self) {
        self.gap.clear();
        self.has_text = false;
        self.has_calls = true;
    }

    /// Appends text that is not a mark.
    pub fn text(&mut self, text: &str, out: &mut Vec<Part>) {
        if !self.has_text && text.chars().all(is_space) {
            self.gap.push_str(text);
            return;
        }
        self.has_text = true;
        append_text(out, &std::mem::take(&mut self.gap));
        append_text(out, text);
    }

    /// Ends the output. Whitespace is kept if there were no calls.
    pub fn finish(&mut self, out: &mut Vec<Part>) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            self.text(&held, out);
        }
        if !self.has_calls {
            append_text(out, &std::mem::take(&mut self.gap));
        }
    }
}
