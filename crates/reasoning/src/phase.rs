/// Where the output of a request begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The model decides whether it reasons.
    Undecided,
    /// The prompt ends with the opening mark: the output begins inside the reasoning.
    Reasoning,
    /// The prompt ends with the closing mark: the output is the answer.
    Answer,
}

/// Part of the output that the next text belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Neither reasoning nor the answer has begun.
    Start,
    /// The model reasons.
    Reasoning,
    /// Between two parts, or in a part that is neither reasoning nor the final answer.
    Between,
    /// The model answers.
    Answer,
}

/// Returns the length of the longest end of `text` that `mark` starts with, without being equal
/// to it.
pub(crate) fn partial_mark(text: &str, mark: &str) -> usize {
    let longest = text.len().min(mark.len().saturating_sub(1));
    (1..=longest)
        .rev()
        .filter(|length| mark.is_char_boundary(*length))
        .find(|length| text.ends_with(&mark[..*length]))
        .unwrap_or(0)
}
