//! Lets a template find the spelling of a control token that a mark breaks.

use std::borrow::Cow;

use minijinja::Value;

use crate::control::is_mark;

/// The arguments of a method of `text`, each as the text spells it.
pub(super) fn as_spelled<'a>(text: &str, arguments: &'a [Value]) -> Cow<'a, [Value]> {
    if !text.contains(is_mark) {
        return Cow::Borrowed(arguments);
    }
    let plain = text.replace(is_mark, "");
    let spelled = |argument: &Value| {
        let spelling = spelling(text, &plain, argument.as_str()?)?;
        Some(Value::from(spelling))
    };
    arguments
        .iter()
        .map(|argument| spelled(argument).unwrap_or_else(|| argument.clone()))
        .collect()
}

/// How `text` spells `part`, if only marks differ; `plain` is the text without marks.
fn spelling(text: &str, plain: &str, part: &str) -> Option<String> {
    if part.is_empty() || text.contains(part) {
        return None;
    }
    let start = plain.find(part)?;
    let end = start + part.len();
    let mut out = String::new();
    // Position in the text without marks.
    let mut at = 0;
    for c in text.chars() {
        let is_mark = is_mark(c);
        if at >= end {
            break;
        }
        if at > start || (at == start && !is_mark) {
            out.push(c);
        }
        at += if is_mark { 0 } else { c.len_utf8() };
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_mark_breaks() {
        let text = "é\u{fdd0}<\u{fdd0}/t>\u{fdd0}b";
        for (part, expected) in [
            ("</t>", "<\u{fdd0}/t>"),
            ("é</t>b", "é\u{fdd0}<\u{fdd0}/t>\u{fdd0}b"),
            ("<", "<"),
            ("x", "x"),
        ] {
            let found = as_spelled(text, &[Value::from(part)]).into_owned();
            assert_eq!(found, [Value::from(expected)]);
        }
    }
}
