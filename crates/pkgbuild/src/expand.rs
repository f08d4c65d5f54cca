//! Expansion of words, as far as it depends on the variables of the script only. What is not
//! done exactly as bash does it is an error that names it.

use brush_parser::{
    ParserOptions,
    word::{self, BraceExpressionMember, BraceExpressionOrText, WordPiece, WordPieceWithSource},
};

use crate::{
    Variables,
    parameter::{self, Expanded, MAX_BYTES, Result},
};

/// Words that one word with braces expands to at most.
const MAX_BRACES: usize = 1000;
const GLOB: &str = "a pattern of file names";
const SPLIT: &str = "an unquoted value that is split into words";

/// Expands the value of a scalar: it is neither split nor taken as a pattern of file names.
pub(crate) fn text(word: &str, variables: &Variables) -> Result<String> {
    let mut fields = Fields::new(false);
    fields.pieces(&pieces(word)?, variables, false)?;
    Ok(fields.finish().join(" "))
}

/// Expands an element of an array, which can become several.
pub(crate) fn words(word: &str, variables: &Variables) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for word in braces(word)? {
        let mut fields = Fields::new(true);
        fields.pieces(&pieces(&word)?, variables, false)?;
        all.extend(fields.finish());
    }
    Ok(all)
}

fn options() -> ParserOptions {
    ParserOptions::default()
}

fn pieces(word: &str) -> Result<Vec<WordPieceWithSource>> {
    word::parse(word, &options()).map_err(|_| "a word that cannot be parsed")
}

/// Expands `{a,b}`.
fn braces(word: &str) -> Result<Vec<String>> {
    if !word.contains('{') {
        return Ok(vec![word.to_owned()]);
    }
    let parsed = word::parse_brace_expansions(word, &options());
    match parsed.map_err(|_| "braces that cannot be parsed")? {
        Some(parts) => combine(&parts),
        None => Ok(vec![word.to_owned()]),
    }
}

fn combine(parts: &[BraceExpressionOrText]) -> Result<Vec<String>> {
    let mut words = vec![String::new()];
    for part in parts {
        let choices = match part {
            BraceExpressionOrText::Text(text) => vec![text.clone()],
            BraceExpressionOrText::Expr(members) => {
                let mut choices = Vec::new();
                for member in members {
                    let BraceExpressionMember::Child(parts) = member else {
                        return Err("a sequence in braces");
                    };
                    choices.extend(combine(parts)?);
                }
                choices
            }
        };
        if words.len() * choices.len() > MAX_BRACES {
            return Err("braces with very many results");
        }
        words = words
            .iter()
            .flat_map(|word| choices.iter().map(move |choice| format!("{word}{choice}")))
            .collect();
    }
    Ok(words)
}

/// The fields that a word becomes.
struct Fields {
    done: Vec<String>,
    /// The last field, if it exists: quotes make an empty one.
    last: Option<String>,
    /// Whether unquoted values are split, and patterns of file names are expanded.
    splits: bool,
}

impl Fields {
    fn new(splits: bool) -> Self {
        Self {
            done: Vec::new(),
            last: (!splits).then(String::new),
            splits,
        }
    }

    fn push(&mut self, text: &str) -> Result<()> {
        let last = self.last.get_or_insert_default();
        last.push_str(text);
        if last.len() > MAX_BYTES {
            return Err("a very long value");
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<String> {
        self.done.extend(self.last);
        self.done
    }

    fn pieces(
        &mut self,
        pieces: &[WordPieceWithSource],
        variables: &Variables,
        quoted: bool,
    ) -> Result<()> {
        for piece in pieces {
            match &piece.piece {
                WordPiece::Text(text) => {
                    if self.splits && !quoted && text.contains(['*', '?', '[']) {
                        return Err(GLOB);
                    }
                    self.push(text)?;
                }
                WordPiece::SingleQuotedText(text) => self.push(text)?,
                WordPiece::DoubleQuotedSequence(pieces) => {
                    // `"${list[@]}"` of an empty list is no field, and `""` is one.
                    if pieces.is_empty() {
                        self.push("")?;
                    }
                    self.pieces(pieces, variables, true)?;
                }
                WordPiece::EscapeSequence(sequence) => self.push(&unescaped(sequence, quoted))?,
                WordPiece::ParameterExpansion(expression) => {
                    let expanded = parameter::evaluate(expression, variables, text)?;
                    self.expanded(&expanded, quoted)?;
                }
                WordPiece::TildeExpansion(_) => return Err("a home directory"),
                WordPiece::AnsiCQuotedText(_) => return Err("a value in `$'…'`"),
                WordPiece::GettextDoubleQuotedSequence(_) => return Err("a translated value"),
                WordPiece::CommandSubstitution(_) | WordPiece::BackquotedCommandSubstitution(_) => {
                    return Err("the output of a command");
                }
                WordPiece::ArithmeticExpression(_) => return Err("an arithmetic expression"),
            }
        }
        Ok(())
    }

    fn expanded(&mut self, expanded: &Expanded, quoted: bool) -> Result<()> {
        if !quoted && self.splits {
            let is_one_word =
                |value: &String| !value.contains([' ', '\t', '\n', '*', '?', '[', '\\']);
            if !expanded.values.iter().all(is_one_word) {
                return Err(SPLIT);
            }
        }
        if !expanded.are_fields || !self.splits {
            let separator = if expanded.values.len() > 1 { " " } else { "" };
            let joined = expanded.values.join(separator);
            // An empty value without quotes is no field.
            if quoted || !joined.is_empty() {
                self.push(&joined)?;
            }
            return Ok(());
        }
        let values = expanded.values.iter();
        for (n, value) in values
            .filter(|value| quoted || !value.is_empty())
            .enumerate()
        {
            if n > 0 {
                self.done.extend(self.last.take());
            }
            self.push(value)?;
        }
        Ok(())
    }
}

fn unescaped(sequence: &str, quoted: bool) -> String {
    let rest = sequence.strip_prefix('\\').unwrap_or(sequence);
    match rest.chars().next() {
        Some('\n') => String::new(),
        Some('$' | '`' | '"' | '\\') => rest.to_owned(),
        _ if quoted => sequence.to_owned(),
        _ => rest.to_owned(),
    }
}
