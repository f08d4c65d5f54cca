//! What precedes a call, follows one, or stands between two. It is short, so each character reads
//! it from its start again.

use crate::{
    format::{Arguments, Call, Item, ToolFormat},
    functions::Functions,
    json::is_space,
};

/// Maximum length of what precedes or follows a call; anything longer is text.
pub(crate) const MAX_BYTES: usize = 512;
/// Maximum length of the text of an [`Item::Any`].
const MAX_ANY_BYTES: usize = 64;

/// Position among calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// A call precedes in the same section.
    pub after_call: bool,
    /// The calls are in a list.
    pub in_list: bool,
    /// Number of texts after the call that were read.
    pub passed: usize,
}

/// What the text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// It is incomplete. The name of the function is known if a call has begun.
    More(Option<String>),
    /// It has no meaning in the format.
    Other,
    /// A call begins.
    Call(Start),
    /// A mark that begins calls.
    Mark,
    /// The text with this number after a call.
    Passed(usize),
    /// The end of the calls.
    Close,
    /// Text follows instead of a call.
    Text,
}

/// The start of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    pub syntax: &'static Call,
    /// Name of the function, unless the object has it.
    pub name: String,
    /// The calls are in a list.
    pub in_list: bool,
    /// Length of the text that belongs to the start.
    pub used: usize,
}

/// Reads what precedes or follows a call.
pub(crate) fn read(
    format: &'static ToolFormat,
    position: Position,
    functions: &Functions,
    text: &str,
) -> Head {
    let mut rest = text.trim_start_matches(is_space);
    let mut partial = rest.is_empty();
    if position.after_call {
        let mut candidates =
            (position.passed..).map_while(|n| Some((n, follower(format, position, n)?)));
        for (nth, follower) in candidates.by_ref() {
            let follower = follower.trim();
            if !follower.is_empty() && rest.starts_with(follower) {
                let is_last = candidates.all(|(_, follower)| follower.trim().is_empty());
                let closes = nth >= first_closing(format) && is_last;
                return if closes {
                    Head::Close
                } else {
                    Head::Passed(nth + 1)
                };
            }
            partial |= follower.starts_with(rest);
        }
        let between = format.layout.between.unwrap_or_default().trim();
        let separates = position.in_list || !between.is_empty();
        if let Some(after) = rest.strip_prefix([',', ';']).filter(|_| separates) {
            rest = after.trim_start_matches(is_space);
            partial |= rest.is_empty();
        }
        for mark in format.marks.iter().map(|mark| mark.trim_start()) {
            if rest == mark {
                return Head::Mark;
            }
            partial |= mark.starts_with(rest);
        }
    }
    if let Some(name) = format.layout.text_name.filter(|_| !position.after_call) {
        if rest == name {
            return Head::Text;
        }
        partial |= name.starts_with(rest);
    }
    let mut in_list = position.in_list;
    if format.layout.list
        && !position.after_call
        && let Some(after) = rest.strip_prefix('[')
    {
        rest = after.trim_start_matches(is_space);
        in_list = true;
        partial |= rest.is_empty();
    }
    let offset = text.len() - rest.len();
    let mut known = None;
    for syntax in [Some(&format.call), format.also].into_iter().flatten() {
        match call(syntax, functions, rest) {
            Found::At(name, used) => {
                return Head::Call(Start {
                    syntax,
                    name,
                    in_list,
                    used: offset + used,
                });
            }
            Found::More(name) => {
                partial = true;
                known = known.or(name);
            }
            Found::No => {}
        }
    }
    if partial && text.len() <= MAX_BYTES {
        Head::More(known)
    } else {
        Head::Other
    }
}

/// Number of the first text after a call that ends all calls.
fn first_closing(format: &ToolFormat) -> usize {
    match &format.call {
        Call::Object { .. } => 0,
        Call::Named { end, .. } => end.len(),
    }
}

/// Returns the text with this number after a call; each may be missing.
fn follower(format: &ToolFormat, position: Position, nth: usize) -> Option<&'static str> {
    let ends = match &format.call {
        Call::Object { .. } => &[][..],
        Call::Named { end, .. } => end,
    };
    let close = format.layout.close.trim();
    match nth.checked_sub(ends.len()) {
        None => ends.get(nth).copied(),
        Some(0) => Some(if position.in_list { "]" } else { "" }),
        Some(1) if position.in_list => Some(close.strip_prefix(']').unwrap_or(close)),
        Some(1) => Some(close),
        Some(_) => None,
    }
}

enum Found {
    /// A call of this function, and the length of its start.
    At(String, usize),
    /// The start is incomplete, but the name may be known.
    More(Option<String>),
    No,
}

fn call(syntax: &Call, functions: &Functions, text: &str) -> Found {
    match syntax {
        Call::Object { .. } if text.starts_with('{') => Found::At(String::new(), 1),
        Call::Object { .. } if text.is_empty() => Found::More(None),
        Call::Object { .. } => Found::No,
        Call::Named {
            head, arguments, ..
        } => named(head, arguments, functions, text),
    }
}

fn named(items: &[Item], arguments: &Arguments, functions: &Functions, text: &str) -> Found {
    let mut rest = text;
    let mut name = None;
    for (nth, item) in items.iter().enumerate() {
        match *item {
            Item::Text(expected) => match after(rest, expected) {
                After::Text(after) => rest = after,
                After::Incomplete => return Found::More(name),
                After::Other => return Found::No,
            },
            Item::Optional(expected) => match after(rest, expected) {
                After::Text(after) => rest = after,
                After::Incomplete => return Found::More(name),
                After::Other => {}
            },
            Item::MaybeId(expected) => match after(rest, expected) {
                After::Text(after) => {
                    rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
                }
                After::Incomplete => return Found::More(name),
                After::Other => {}
            },
            Item::Any(_) => {
                let Some(Item::Text(next)) = items.get(nth + 1) else {
                    return Found::No;
                };
                match rest.find(next.trim()) {
                    Some(at) if at <= MAX_ANY_BYTES => rest = &rest[at..],
                    None if rest.len() <= MAX_ANY_BYTES + next.len() => return Found::More(name),
                    _ => return Found::No,
                }
            }
            Item::Name => {
                rest = rest.trim_start_matches(is_space);
                // The longest name ends where another character follows.
                if functions.may_begin(rest) {
                    return Found::More(None);
                }
                let Some(found) = functions.longest_at(rest) else {
                    return Found::No;
                };
                name = Some(found.to_owned());
                rest = &rest[found.len()..];
                if rest.starts_with(is_name) {
                    return Found::No;
                }
            }
        }
    }
    if matches!(arguments, Arguments::Json) {
        match after(rest, "{") {
            After::Text(after) => rest = after,
            After::Incomplete => return Found::More(name),
            After::Other => return Found::No,
        }
    }
    Found::At(name.unwrap_or_default(), text.len() - rest.len())
}

/// Returns whether a name that `c` follows is another name.
fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

enum After<'a> {
    Text(&'a str),
    Incomplete,
    Other,
}

/// Returns what follows `expected`, which whitespace may precede.
fn after<'a>(text: &'a str, expected: &str) -> After<'a> {
    let rest = text.trim_start_matches(is_space);
    let expected = expected.trim();
    if let Some(after) = rest.strip_prefix(expected) {
        After::Text(after)
    } else if expected.starts_with(rest) {
        After::Incomplete
    } else {
        After::Other
    }
}
