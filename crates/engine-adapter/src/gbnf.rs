//! From regular expressions to the grammars of llama.cpp (`grammars/README.md` of its repository).

use std::fmt::Write as _;

use diagnostics::Diagnostic;
use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

use crate::errors;

/// Returns the grammar of all texts that `pattern` matches entirely.
///
/// Errors: `INVALID_REQUEST` for an invalid pattern, and for one that looks around.
pub(crate) fn grammar(pattern: &str) -> Result<String, Diagnostic> {
    let hir = regex_syntax::parse(pattern).map_err(|error| errors::invalid_regex(&error))?;
    let mut out = "root ::= ".to_owned();
    write_node(&hir, &mut out)?;
    Ok(out)
}

fn write_node(hir: &Hir, out: &mut String) -> Result<(), Diagnostic> {
    match hir.kind() {
        // The whole output is matched anyway.
        HirKind::Empty | HirKind::Look(Look::Start | Look::End) => out.push_str("\"\""),
        HirKind::Look(_) => return Err(errors::invalid_regex(&"it looks around")),
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0)
                .map_err(|_| errors::invalid_regex(&"it matches bytes that are not text"))?;
            out.push('"');
            text.chars().for_each(|c| write_character(c, out));
            out.push('"');
        }
        HirKind::Class(class) => write_class(class, out)?,
        HirKind::Repetition(repetition) => write_repetition(repetition, out)?,
        HirKind::Capture(capture) => write_node(&capture.sub, out)?,
        HirKind::Concat(parts) => write_group(parts, " ", out)?,
        HirKind::Alternation(parts) => write_group(parts, " | ", out)?,
    }
    Ok(())
}

fn write_group(parts: &[Hir], separator: &str, out: &mut String) -> Result<(), Diagnostic> {
    out.push('(');
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            out.push_str(separator);
        }
        write_node(part, out)?;
    }
    out.push(')');
    Ok(())
}

fn write_repetition(repetition: &Repetition, out: &mut String) -> Result<(), Diagnostic> {
    out.push('(');
    write_node(&repetition.sub, out)?;
    out.push(')');
    // Writing to a string does not fail.
    let _ = match (repetition.min, repetition.max) {
        (0, None) => write!(out, "*"),
        (1, None) => write!(out, "+"),
        (0, Some(1)) => write!(out, "?"),
        (min, None) => write!(out, "{{{min},}}"),
        (min, Some(max)) => write!(out, "{{{min},{max}}}"),
    };
    Ok(())
}

fn write_class(class: &Class, out: &mut String) -> Result<(), Diagnostic> {
    let Class::Unicode(class) = class else {
        return Err(errors::invalid_regex(&"it matches bytes that are not text"));
    };
    if class.ranges().is_empty() {
        return Err(errors::invalid_regex(&"it matches nothing"));
    }
    out.push('[');
    for range in class.ranges() {
        write_character(range.start(), out);
        if range.end() != range.start() {
            out.push('-');
            write_character(range.end(), out);
        }
    }
    out.push(']');
    Ok(())
}

fn write_character(c: char, out: &mut String) {
    if c.is_ascii_alphanumeric() {
        out.push(c);
    } else {
        let _ = write!(out, "\\U{:08X}", u32::from(c));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_grammars() {
        for (pattern, expected) in [
            ("[0-9]{3}", "root ::= ([0-9]){3,3}"),
            ("^(yes|no)$", "root ::= (\"\" (\"yes\" | \"no\") \"\")"),
            ("a+b*c?", "root ::= ((\"a\")+ (\"b\")* (\"c\")?)"),
            ("\"[^a]\\d{2,}", ""),
        ] {
            let grammar = grammar(pattern).unwrap();
            if !expected.is_empty() {
                assert_eq!(grammar, expected);
            }
        }
        assert!(grammar("\"\\n").unwrap().contains("\\U00000022\\U0000000A"));
    }

    #[test]
    fn what_cannot_be_matched_is_refused() {
        for pattern in ["(", "a\\b", "[a&&b]"] {
            let error = grammar(pattern).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("constraint"), "{pattern}");
        }
    }
}
