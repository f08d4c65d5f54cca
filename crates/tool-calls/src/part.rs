/// A part of a model's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text outside of tool calls.
    Text(String),
    /// Start of a call of this function.
    Begin(String),
    /// More of the arguments of the current call.
    Arguments(String),
    /// End of the current call's arguments.
    End,
}

/// Appends text, to the last part if that is text too.
pub(crate) fn append_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(last)) => last.push_str(text),
        _ if text.is_empty() => {}
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

/// Appends a character of the arguments.
pub(crate) fn append_argument(parts: &mut Vec<Part>, c: char) {
    match parts.last_mut() {
        Some(Part::Arguments(last)) => last.push(c),
        _ => parts.push(Part::Arguments(c.to_string())),
    }
}
