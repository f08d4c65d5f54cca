//! Methods of Python's `str`.

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{Kwargs, ValueKind, from_args},
};
use minijinja_contrib::pycompat;

use super::{check_length, error, items, limited, marks, text, tuple};

pub(super) const METHODS: &[&str] = &[
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];

pub(super) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let text = value.as_str().unwrap_or_default();
    let arguments = &*marks::as_spelled(text, arguments);
    match name {
        "strip" | "lstrip" | "rstrip" => strip(text, name, arguments),
        "split" | "rsplit" => split(text, arguments, name == "rsplit"),
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            if separator.is_empty() {
                return Err(error("empty separator"));
            }
            let found = match name {
                "partition" => text.split_once(separator),
                _ => text.rsplit_once(separator),
            };
            Ok(tuple(
                match (found, name) {
                    (Some((before, after)), _) => [before, separator, after],
                    (None, "partition") => [text, "", ""],
                    (None, _) => ["", "", text],
                }
                .map(Value::from),
            ))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => search(text, name, arguments),
        "startswith" | "endswith" => affix(text, name, arguments),
        "zfill" => {
            let (width,): (usize,) = from_args(arguments)?;
            let missing = padding(text, width)?;
            let sign = usize::from(text.starts_with(['-', '+']));
            let (sign, digits) = text.split_at(sign);
            limited(format!("{sign}{}{digits}", "0".repeat(missing)))
        }
        "center" | "ljust" | "rjust" => {
            let (width, fill): (usize, Option<char>) = from_args(arguments)?;
            let missing = padding(text, width)?;
            let left = match name {
                "center" => missing / 2 + (missing & width & 1),
                "rjust" => missing,
                _ => 0,
            };
            let fill = fill.unwrap_or(' ').to_string();
            limited(format!(
                "{}{text}{}",
                fill.repeat(left),
                fill.repeat(missing - left)
            ))
        }
        "join" => {
            let (values,): (&Value,) = from_args(arguments)?;
            let mut out = String::new();
            for (index, item) in items(values)?.iter().enumerate() {
                let Some(item_text) = item.as_str() else {
                    let kind = text::type_name(item);
                    return Err(error(format!("item {index}: expected str, {kind} found")));
                };
                if index > 0 {
                    out.push_str(text);
                }
                out.push_str(item_text);
                check_length(out.len())?;
            }
            Ok(Value::from(out))
        }
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(arguments)?;
            replace(text, old, new, count)
        }
        "title" => no_arguments(arguments, || title(text)),
        "capitalize" => no_arguments(arguments, || capitalize(text)),
        "swapcase" => no_arguments(arguments, || {
            let swap = |c: char| {
                if c.is_uppercase() {
                    c.to_lowercase().collect::<String>()
                } else {
                    c.to_uppercase().collect()
                }
            };
            text.chars().map(swap).collect()
        }),
        "casefold" => no_arguments(arguments, || text.to_lowercase().replace('ß', "ss")),
        "expandtabs" => {
            let (width,): (Option<usize>,) = from_args(arguments)?;
            expand_tabs(text, width.unwrap_or(8))
        }
        "splitlines" => {
            let (keep, named): (Option<bool>, Kwargs) = from_args(arguments)?;
            let keep = keep.or(named.get("keepends")?).unwrap_or(false);
            named.assert_all_used()?;
            Ok(lines(text, keep).map(Value::from).collect())
        }
        "isdecimal" | "isdigit" | "isnumeric" => {
            let () = from_args(arguments)?;
            let is = |c: char| match name {
                "isnumeric" => c.is_numeric(),
                _ => c.is_ascii_digit() || (c.is_numeric() && !c.is_alphabetic() && is_decimal(c)),
            };
            Ok(Value::from(!text.is_empty() && text.chars().all(is)))
        }
        "isprintable" => {
            let () = from_args(arguments)?;
            Ok(Value::from(text.chars().all(text::is_printable)))
        }
        "isidentifier" => {
            let () = from_args(arguments)?;
            let starts = text.starts_with(|c: char| c.is_alphabetic() || c == '_');
            let continues = |c: char| c.is_alphanumeric() || c == '_';
            Ok(Value::from(starts && text.chars().all(continues)))
        }
        "istitle" => {
            let () = from_args(arguments)?;
            let cased = text.chars().any(|c| c.is_uppercase() || c.is_lowercase());
            Ok(Value::from(cased && title(text) == text))
        }
        "encode" | "translate" | "format_map" | "maketrans" => {
            Err(Error::from(ErrorKind::UnknownMethod))
        }
        _ => pycompat::unknown_method_callback(state, value, name, arguments),
    }
}

fn no_arguments(arguments: &[Value], make: impl FnOnce() -> String) -> Result<Value, Error> {
    let () = from_args(arguments)?;
    limited(make())
}

/// Whether the character is a decimal digit of some script: blocks of ten from a multiple of 2.
fn is_decimal(c: char) -> bool {
    matches!(u32::from(c),
        0x660..=0x669 | 0x6f0..=0x6f9 | 0x7c0..=0x7c9 | 0x966..=0x96f | 0x9e6..=0x9ef
        | 0xa66..=0xa6f | 0xae6..=0xaef | 0xb66..=0xb6f | 0xbe6..=0xbef | 0xc66..=0xc6f
        | 0xce6..=0xcef | 0xd66..=0xd6f | 0xe50..=0xe59 | 0xed0..=0xed9 | 0xf20..=0xf29
        | 0xff10..=0xff19)
}

/// Whether Python's methods without an argument strip or split at the character.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

fn strip(text: &str, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (chars,): (Option<&str>,) = from_args(arguments)?;
    let matches = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    Ok(Value::from(match name {
        "strip" => text.trim_matches(matches),
        "lstrip" => text.trim_start_matches(matches),
        _ => text.trim_end_matches(matches),
    }))
}

fn split(text: &str, arguments: &[Value], from_end: bool) -> Result<Value, Error> {
    let (separator, limit, named): (Option<Value>, Option<i64>, Kwargs) = from_args(arguments)?;
    let separator = match separator {
        None => named.get::<Option<Value>>("sep")?,
        given => given,
    };
    let limit = limit.or(named.get("maxsplit")?).unwrap_or(-1);
    named.assert_all_used()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX - 1);
    let mut parts: Vec<&str> = match separator.filter(|s| !s.is_none()) {
        Some(separator) => {
            let separator = match separator.as_str() {
                Some("") => return Err(error("empty separator")),
                Some(separator) => separator,
                None => return Err(error("the separator is not a string")),
            };
            if from_end {
                text.rsplitn(limit + 1, separator).collect()
            } else {
                text.splitn(limit + 1, separator).collect()
            }
        }
        None => split_spaces(text, limit, from_end),
    };
    if from_end {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Words between runs of spaces; after `limit` splits, the rest is one part.
fn split_spaces(text: &str, limit: usize, from_end: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        rest = if from_end {
            rest.trim_end_matches(is_space)
        } else {
            rest.trim_start_matches(is_space)
        };
        if rest.is_empty() {
            return parts;
        }
        let cut = if from_end {
            rest.rfind(is_space)
                .filter(|_| parts.len() < limit)
                .map(|at| at + rest[at..].chars().next().map_or(0, char::len_utf8))
        } else {
            rest.find(is_space).filter(|_| parts.len() < limit)
        };
        let Some(cut) = cut else {
            parts.push(rest);
            return parts;
        };
        let (before, after) = rest.split_at(cut);
        parts.push(if from_end { after } else { before });
        rest = if from_end { before } else { after };
    }
}

/// The part of `text` between two positions in characters, as Python slices, and its start.
fn between(text: &str, start: Option<i64>, end: Option<i64>) -> Option<(&str, i64)> {
    if start.is_none() && end.is_none() {
        return Some((text, 0));
    }
    let length = text.chars().count() as i64;
    let bound = |index: i64| {
        if index < 0 {
            (index + length).max(0)
        } else {
            index
        }
    };
    let (start, end) = (
        bound(start.unwrap_or(0)),
        bound(end.unwrap_or(length)).min(length),
    );
    if start > length || start > end {
        return None;
    }
    let byte = |chars: i64| {
        let mut indices = text.char_indices().map(|(at, _)| at);
        indices.nth(chars as usize).unwrap_or(text.len())
    };
    Some((text.get(byte(start)..byte(end))?, start))
}

fn search(text: &str, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (wanted, start, end): (&str, Option<i64>, Option<i64>) = from_args(arguments)?;
    let within = between(text, start, end);
    if name == "count" {
        return Ok(Value::from(
            within.map_or(0, |(part, _)| part.matches(wanted).count()),
        ));
    }
    let found = within.and_then(|(part, start)| {
        let at = if name.starts_with('r') {
            part.rfind(wanted)?
        } else {
            part.find(wanted)?
        };
        Some(start + part[..at].chars().count() as i64)
    });
    match found {
        Some(position) => Ok(Value::from(position)),
        None if name.ends_with("index") => Err(error("substring not found")),
        None => Ok(Value::from(-1)),
    }
}

fn affix(text: &str, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (wanted, start, end): (&Value, Option<i64>, Option<i64>) = from_args(arguments)?;
    let wanted = match wanted.kind() {
        ValueKind::String => vec![wanted.clone()],
        ValueKind::Seq if wanted.is_tuple() => items(wanted)?,
        _ => {
            return Err(error(format!(
                "{name}: expected a string or a tuple of strings"
            )));
        }
    };
    let Some((part, _)) = between(text, start, end) else {
        return Ok(Value::from(false));
    };
    for affix in &wanted {
        let Some(affix) = affix.as_str() else {
            return Err(error(format!("{name}: expected a tuple of strings")));
        };
        let found = match name {
            "startswith" => part.starts_with(affix),
            _ => part.ends_with(affix),
        };
        if found {
            return Ok(Value::from(true));
        }
    }
    Ok(Value::from(false))
}

/// Number of characters that are missing to a width.
fn padding(text: &str, width: usize) -> Result<usize, Error> {
    check_length(width)?;
    Ok(width.saturating_sub(text.chars().count()))
}

pub(super) fn replace(
    text: &str,
    old: &str,
    new: &str,
    count: Option<i64>,
) -> Result<Value, Error> {
    let count = count.and_then(|count| usize::try_from(count).ok());
    let found = text.matches(old).count().min(count.unwrap_or(usize::MAX));
    check_length(text.len().saturating_add(found.saturating_mul(new.len())))?;
    limited(text.replacen(old, new, count.unwrap_or(usize::MAX)))
}

fn expand_tabs(text: &str, width: usize) -> Result<Value, Error> {
    check_length(text.matches('\t').count().saturating_mul(width))?;
    let mut out = String::new();
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' => {
                let spaces = if width == 0 {
                    0
                } else {
                    width - column % width
                };
                out.push_str(&" ".repeat(spaces));
                column += spaces;
            }
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            c => {
                out.push(c);
                column += 1;
            }
        }
    }
    limited(out)
}

/// Lines of a text, with or without their ends.
fn lines(text: &str, keep: bool) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let is_end = |c: char| {
            matches!(
                c,
                '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                    ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
            )
        };
        let end = rest.find(is_end).unwrap_or(rest.len());
        let mark = match rest.get(end..) {
            Some(after) if after.starts_with("\r\n") => 2,
            Some(after) => after.chars().next().map_or(0, char::len_utf8),
            None => 0,
        };
        let line = rest.get(..if keep { end + mark } else { end })?;
        rest = rest.get(end + mark..)?;
        Some(line)
    })
}

/// Each word starts with an upper case letter; a word is a run of letters with case.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.extend(c.to_lowercase());
        } else {
            out.push_str(&upper_first(c));
        }
        in_word = c.is_lowercase() || c.is_uppercase();
    }
    out
}

pub(super) fn upper_first(c: char) -> String {
    match c {
        'ß' => "Ss".to_owned(),
        'Ǆ'..='ǆ' => "ǅ".to_owned(),
        c => c.to_uppercase().collect(),
    }
}

pub(super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(upper_first).unwrap_or_default();
    first + &chars.as_str().to_lowercase()
}
