/// Finds the end of a JSON text, object or array, by its brackets and quotes.
#[derive(Debug, Clone, Default)]
pub(super) struct Span {
    depth: u32,
    in_text: bool,
    escaped: bool,
}

impl Span {
    /// Takes the next character, the first being a quote or an opening bracket; `true` with
    /// the last one.
    pub fn push(&mut self, c: char) -> bool {
        if self.in_text {
            match c {
                _ if self.escaped => self.escaped = false,
                '\\' => self.escaped = true,
                '"' => self.in_text = false,
                _ => {}
            }
        } else {
            match c {
                '"' => self.in_text = true,
                '{' | '[' => self.depth += 1,
                '}' | ']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        self.depth == 0 && !self.in_text
    }
}

/// Whitespace as JSON has it.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\n' | '\r' | '\t')
}
