//! Expansion of parameters: `$name`, `${name%pattern}` and the like.

use brush_parser::word::{Parameter, ParameterExpr, ParameterTestType, SubstringMatchKind};

use crate::{Value, Variables, glob::Glob};

/// Errors say what cannot be expanded.
pub(crate) type Result<T> = std::result::Result<T, &'static str>;
/// Expands the word of a default value.
pub(crate) type ExpandText = fn(&str, &Variables) -> Result<String>;

/// Bytes of an expanded word at most.
pub(crate) const MAX_BYTES: usize = 64 << 10;
const NOT_ASCII: &str = "an operation on text that is not ASCII";

const PATTERN: &str = "a complex pattern";
/// What a parameter expands to.
pub(crate) struct Expanded {
    pub(crate) values: Vec<String>,
    /// Whether each value is a field of its own (`[@]`), also in quotes.
    pub(crate) are_fields: bool,
}

impl Expanded {
    fn one(value: impl Into<String>) -> Self {
        Self {
            values: vec![value.into()],
            are_fields: false,
        }
    }

    fn map(mut self, change: impl Fn(&str) -> Result<String>) -> Result<Self> {
        for value in &mut self.values {
            *value = change(value)?;
        }
        Ok(self)
    }
}

/// Looks a parameter up. `None` if it is not set.
fn lookup(parameter: &Parameter, variables: &Variables) -> Result<Option<Expanded>> {
    match parameter {
        Parameter::Named(name) => Ok(match variables.get(name) {
            Some(Value::List(list)) => list.first().map(Expanded::one),
            Some(Value::Text(text)) => Some(Expanded::one(text)),
            None if is_of_script(name) => None,
            None => return Err("a variable of the environment"),
        }),
        Parameter::NamedWithIndex { name, index } => {
            let index: usize = index.trim().parse().map_err(|_| "a computed index")?;
            let elements = variables.get(name).map_or(&[][..], Value::elements);
            Ok(elements.get(index).map(Expanded::one))
        }
        Parameter::NamedWithAllIndices { name, concatenate } => {
            let values = variables
                .get(name)
                .map_or(&[][..], Value::elements)
                .to_vec();
            Ok(Some(Expanded {
                values,
                are_fields: !concatenate,
            }))
        }
        Parameter::Positional(_) | Parameter::Special(_) => Err("a parameter of the shell"),
    }
}

/// Whether a variable that the script does not set is unset: the environment and bash itself use
/// names in upper case, and makepkg these others.
fn is_of_script(name: &str) -> bool {
    let of_makepkg = ["srcdir", "pkgdir", "startdir"];
    let is_lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.chars().all(is_lower) && !of_makepkg.contains(&name) && name != "_"
}

/// Evaluates `${…}`.
pub(crate) fn evaluate(
    expression: &ParameterExpr,
    variables: &Variables,
    text: ExpandText,
) -> Result<Expanded> {
    use ParameterExpr as Expr;
    let value = |parameter: &Parameter, indirect: bool| {
        if indirect {
            return Err("an indirect expansion");
        }
        let found = lookup(parameter, variables)?;
        Ok(found.unwrap_or_else(|| Expanded::one("")))
    };
    let is_none = |pattern: &Option<String>| pattern.as_ref().is_none_or(String::is_empty);
    match expression {
        Expr::Parameter {
            parameter,
            indirect,
        } => value(parameter, *indirect),
        Expr::UseDefaultValues {
            parameter,
            indirect: false,
            test_type,
            default_value,
        } => match set_value(parameter, test_type, variables)? {
            Some(set) => Ok(set),
            None => alternative(default_value.as_deref(), variables, text),
        },
        Expr::UseAlternativeValue {
            parameter,
            indirect: false,
            test_type,
            alternative_value,
        } => match set_value(parameter, test_type, variables)? {
            Some(_) => alternative(alternative_value.as_deref(), variables, text),
            None => Ok(Expanded::one("")),
        },
        Expr::ParameterLength {
            parameter,
            indirect,
        } => {
            let expanded = value(parameter, *indirect)?;
            let is_list = matches!(parameter, Parameter::NamedWithAllIndices { .. });
            let length = match expanded.values.as_slice() {
                values if is_list => values.len(),
                [text] => ascii(text)?.len(),
                _ => 0,
            };
            Ok(Expanded::one(length.to_string()))
        }
        Expr::RemoveSmallestSuffixPattern {
            parameter,
            indirect,
            pattern,
        } => remove(
            value(parameter, *indirect)?,
            pattern.as_deref(),
            suffix(false),
        ),
        Expr::RemoveLargestSuffixPattern {
            parameter,
            indirect,
            pattern,
        } => remove(
            value(parameter, *indirect)?,
            pattern.as_deref(),
            suffix(true),
        ),
        Expr::RemoveSmallestPrefixPattern {
            parameter,
            indirect,
            pattern,
        } => remove(
            value(parameter, *indirect)?,
            pattern.as_deref(),
            prefix(false),
        ),
        Expr::RemoveLargestPrefixPattern {
            parameter,
            indirect,
            pattern,
        } => remove(
            value(parameter, *indirect)?,
            pattern.as_deref(),
            prefix(true),
        ),
        Expr::Substring {
            parameter,
            indirect,
            offset,
            length,
        } => {
            if matches!(parameter, Parameter::NamedWithAllIndices { .. }) {
                return Err("a part of an array");
            }
            let number = |text: &str| text.trim().parse::<i64>().map_err(|_| "a computed offset");
            let offset = number(&offset.value)?;
            let length = length
                .as_ref()
                .map(|length| number(&length.value))
                .transpose()?;
            value(parameter, *indirect)?.map(|text| substring(text, offset, length))
        }
        Expr::UppercasePattern {
            parameter,
            indirect,
            pattern,
        } if is_none(pattern) => {
            value(parameter, *indirect)?.map(|text| Ok(ascii(text)?.to_ascii_uppercase()))
        }
        Expr::LowercasePattern {
            parameter,
            indirect,
            pattern,
        } if is_none(pattern) => {
            value(parameter, *indirect)?.map(|text| Ok(ascii(text)?.to_ascii_lowercase()))
        }
        Expr::UppercaseFirstChar {
            parameter,
            indirect,
            pattern,
        } if is_none(pattern) => {
            value(parameter, *indirect)?.map(|text| first(text, |c| c.to_ascii_uppercase()))
        }
        Expr::LowercaseFirstChar {
            parameter,
            indirect,
            pattern,
        } if is_none(pattern) => {
            value(parameter, *indirect)?.map(|text| first(text, |c| c.to_ascii_lowercase()))
        }
        Expr::ReplaceSubstring {
            parameter,
            indirect,
            pattern,
            replacement,
            match_kind,
        } => {
            let glob = Glob::parse(pattern).ok_or(PATTERN)?;
            let replacement = replacement.as_deref().unwrap_or_default();
            // In bash 5.2 and later `&` is what was matched.
            if replacement.contains(['&', '\\', '\'', '"', '$', '`', '~']) {
                return Err("a complex replacement");
            }
            value(parameter, *indirect)?.map(|text| replace(text, &glob, replacement, match_kind))
        }
        _ => Err("an unusual expansion"),
    }
}

fn set_value(
    parameter: &Parameter,
    test: &ParameterTestType,
    variables: &Variables,
) -> Result<Option<Expanded>> {
    if matches!(parameter, Parameter::NamedWithAllIndices { .. }) {
        return Err("a test of an array");
    }
    let found = lookup(parameter, variables)?;
    let is_empty = |found: &Expanded| found.values.iter().all(String::is_empty);
    Ok(found.filter(|found| matches!(test, ParameterTestType::Unset) || !is_empty(found)))
}

fn alternative(word: Option<&str>, variables: &Variables, text: ExpandText) -> Result<Expanded> {
    Ok(Expanded::one(text(word.unwrap_or_default(), variables)?))
}

fn ascii(text: &str) -> Result<&str> {
    if text.is_ascii() {
        Ok(text)
    } else {
        Err(NOT_ASCII)
    }
}

fn first(text: &str, change: impl Fn(char) -> char) -> Result<String> {
    let mut chars = ascii(text)?.chars();
    let first = chars.next().map(change);
    Ok(first.into_iter().chain(chars).collect())
}

/// Finds the part of a text that stays.
type Remover = fn(&Glob, &str) -> std::ops::Range<usize>;

fn remove(expanded: Expanded, pattern: Option<&str>, stays: Remover) -> Result<Expanded> {
    let glob = Glob::parse(pattern.unwrap_or_default()).ok_or(PATTERN)?;
    expanded.map(|text| Ok(ascii(text)?[stays(&glob, text)].to_owned()))
}

fn prefix(longest: bool) -> Remover {
    fn smallest(glob: &Glob, text: &str) -> std::ops::Range<usize> {
        let mut ends = 0..=text.len();
        let end = ends.find(|end| glob.matches(&text.as_bytes()[..*end]));
        end.unwrap_or(0)..text.len()
    }
    fn largest(glob: &Glob, text: &str) -> std::ops::Range<usize> {
        glob.longest(text.as_bytes()).unwrap_or(0)..text.len()
    }
    if longest { largest } else { smallest }
}

fn suffix(longest: bool) -> Remover {
    fn smallest(glob: &Glob, text: &str) -> std::ops::Range<usize> {
        let mut starts = (0..=text.len()).rev();
        let start = starts.find(|start| glob.matches(&text.as_bytes()[*start..]));
        0..start.unwrap_or(text.len())
    }
    fn largest(glob: &Glob, text: &str) -> std::ops::Range<usize> {
        let mut starts = 0..=text.len();
        let start = starts.find(|start| glob.matches(&text.as_bytes()[*start..]));
        0..start.unwrap_or(text.len())
    }
    if longest { largest } else { smallest }
}

fn substring(text: &str, offset: i64, length: Option<i64>) -> Result<String> {
    let size = i64::try_from(ascii(text)?.len()).map_err(|_| "a very long value")?;
    let start = if offset < 0 { size + offset } else { offset };
    if !(0..=size).contains(&start) {
        return Ok(String::new());
    }
    let end = match length {
        None => size,
        Some(length) if length < 0 => size + length,
        Some(length) => start.saturating_add(length).min(size),
    };
    if end < start {
        return Err("a part with a negative length");
    }
    Ok(text[start as usize..end as usize].to_owned())
}

fn replace(text: &str, glob: &Glob, new: &str, kind: &SubstringMatchKind) -> Result<String> {
    let bytes = ascii(text)?.as_bytes();
    let matched = |at: usize| glob.longest(&bytes[at..]).filter(|length| *length > 0);
    match kind {
        SubstringMatchKind::Prefix => Ok(match glob.longest(bytes) {
            Some(length) => format!("{new}{}", &text[length..]),
            None => text.to_owned(),
        }),
        SubstringMatchKind::Suffix => {
            let start = (0..=text.len()).find(|start| glob.matches(&bytes[*start..]));
            Ok(match start {
                Some(start) => format!("{}{new}", &text[..start]),
                None => text.to_owned(),
            })
        }
        SubstringMatchKind::FirstOccurrence | SubstringMatchKind::Anywhere => {
            let all = matches!(kind, SubstringMatchKind::Anywhere);
            let (mut result, mut at, mut replaced) = (String::new(), 0, false);
            while at < text.len() {
                if let Some(length) = matched(at).filter(|_| all || !replaced) {
                    result.push_str(new);
                    at += length;
                    replaced = true;
                } else {
                    result.push_str(&text[at..=at]);
                    at += 1;
                }
                if result.len() > MAX_BYTES {
                    return Err("a very long value");
                }
            }
            Ok(result)
        }
    }
}
