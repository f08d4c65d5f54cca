/// Finds the end of a JSON string, object or array by its brackets and quotes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Span {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Span {
    /// Processes the next character; the first one is a quote or an opening bracket. Returns
    /// whether it is the last one.
    pub fn push(&mut self, c: char) -> bool {
        if self.in_string {
            match c {
                _ if self.escaped => self.escaped = false,
                '\\' => self.escaped = true,
                '"' => self.in_string = false,
                _ => {}
            }
        } else {
            match c {
                '"' => self.in_string = true,
                '{' | '[' => self.depth += 1,
                '}' | ']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        self.depth == 0 && !self.in_string
    }
}

/// Returns whether `c` is JSON whitespace.
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\n' | '\r' | '\t')
}

/// Returns the length of the longest end of `text` that `mark` starts with, without being equal
/// to it.
pub(crate) fn partial_mark(text: &str, mark: &str) -> usize {
    let starts = text.char_indices().map(|(at, _)| at);
    let mut ends = starts.map(|at| &text[at..]);
    let found = ends.find(|end| end.len() < mark.len() && mark.starts_with(end));
    found.map_or(0, str::len)
}
