//! Writes the descriptions of tool formats as grammars.

use answer_constraint::{Calls, Fields, Function, Piece, Syntax, Trigger};
use serde_json::{Value, json};
use text_codec::{Codec, ToolFormat};
use tool_calls::{Arguments, Call, FunctionTypes, GEMMA_QUOTE, Item};
use worker_contract::ToolDefinition;

/// The syntax of calls in the format of a model, spelled in its vocabulary.
pub(super) struct Writer<'a> {
    pub format: &'static ToolFormat,
    pub codec: &'a Codec,
}

impl Writer<'_> {
    /// Returns calls of one or more of `tools`, or of only one.
    pub fn calls<'t>(
        &self,
        tools: impl IntoIterator<Item = &'t ToolDefinition>,
        several: bool,
    ) -> Calls {
        let layout = &self.format.layout;
        let between = layout.between.filter(|_| several);
        let divider = between.map(|between| {
            if layout.each {
                self.spell(&[layout.close, between, layout.open].concat())
            } else {
                self.spell(between)
            }
        });
        // The prompt ends with the first mark.
        let open = if layout.prefilled { "" } else { layout.open };
        Calls {
            open: self.spell(open),
            divider,
            close: self.spell(layout.close),
            functions: tools.into_iter().map(|tool| self.function(tool)).collect(),
        }
    }

    /// Returns where calls begin in free text, and the calls after that; `None` if this cannot
    /// be recognized by a single mark.
    pub fn calls_in_text(
        &self,
        tools: &[ToolDefinition],
        several: bool,
    ) -> Option<(Trigger, Calls)> {
        let layout = &self.format.layout;
        let mut calls = self.calls(tools, several);
        if let Some(first) = layout.unmarked {
            return Some((Trigger::Start(first), calls));
        }
        if layout.each {
            // Text may stand between two calls.
            calls.divider = None;
        }
        // A mark that is the end of another one is found in both.
        let marks = self.format.marks;
        let is_longer = |mark: &&str| marks.iter().any(|m| m != mark && mark.ends_with(m));
        let mut shortest = marks.iter().copied().filter(|mark| !is_longer(mark));
        let mark = shortest.next()?;
        let (_, rest) = layout.open.split_once(mark)?;
        calls.open = self.spell(rest);
        let Ok([mark]) = <[Piece; 1]>::try_from(self.spell(mark)) else {
            return None;
        };
        let excluded = shortest.map(str::to_owned).collect();
        Some((Trigger::Mark { mark, excluded }, calls))
    }

    fn function(&self, tool: &ToolDefinition) -> Function {
        let arguments = arguments(tool);
        let (begin, syntax, end) = match &self.format.call {
            Call::Object { begin, arguments } => {
                let name = Value::from(tool.name.as_str());
                (
                    format!("{begin}{name}{arguments}"),
                    Syntax::Json,
                    "}".to_owned(),
                )
            }
            Call::Named {
                head,
                arguments: syntax,
                end,
            } => {
                let written = head.iter().map(|item| match item {
                    Item::Text(text) | Item::Optional(text) | Item::Any(text) => *text,
                    Item::MaybeId(_) => "",
                    Item::Name => tool.name.as_str(),
                });
                let closing = match syntax {
                    Arguments::Json | Arguments::Fields(_) => "",
                    Arguments::Python => ")",
                    Arguments::Gemma => "}",
                };
                let end = format!("{closing}{}", end.concat());
                (written.collect(), self.syntax(syntax, &arguments), end)
            }
        };
        Function {
            name: tool.name.clone(),
            begin: self.spell(&begin),
            arguments,
            syntax,
            strict: tool.strict,
            end: self.spell(&end),
        }
    }

    fn syntax(&self, arguments: &Arguments, schema: &Value) -> Syntax {
        let none = String::new;
        let (open, assign, close, divider, quote) = match arguments {
            Arguments::Json => return Syntax::Json,
            Arguments::Fields(fields) => (
                fields.open,
                [fields.key_end, fields.value, fields.pad].concat(),
                [fields.pad, fields.close].concat(),
                fields.between,
                "",
            ),
            Arguments::Python => ("", "=".to_owned(), none(), ", ", ""),
            Arguments::Gemma => ("", ":".to_owned(), none(), ",", GEMMA_QUOTE),
        };
        let types = FunctionTypes::new(Some(schema.clone()));
        let properties = schema.get("properties").and_then(Value::as_object);
        let names = properties
            .into_iter()
            .flat_map(|properties| properties.keys());
        // Python's strings are written as those of JSON.
        let is_plain = |name: &&String| *arguments != Arguments::Python && types.is_string(name);
        Syntax::Fields(Fields {
            open: self.spell(open),
            assign: self.spell(&assign),
            close: self.spell(&close),
            divider: self.spell(divider),
            plain: names.filter(is_plain).cloned().collect(),
            quote: self.spell(quote),
        })
    }

    /// Splits a text into plain text and the special tokens in it. Tokens that end the output
    /// are left out.
    pub fn spell(&self, text: &str) -> Vec<Piece> {
        let mut pieces = spell(text, self.codec.markers());
        let ends = self.codec.end_tokens();
        pieces.retain(|piece| !matches!(piece, Piece::Token(id) if ends.contains(id)));
        pieces
    }
}

/// Returns the schema of a function's arguments. They are an object even if the definition says
/// otherwise.
fn arguments(tool: &ToolDefinition) -> Value {
    match &tool.parameters {
        Some(Value::Object(schema)) => {
            let mut schema = schema.clone();
            schema.insert("type".to_owned(), "object".into());
            Value::Object(schema)
        }
        Some(Value::Bool(true)) => json!({"type": "object"}),
        Some(other) => other.clone(),
        None => json!({"type": "object", "additionalProperties": false}),
    }
}

/// Splits a text into plain text and the tokens of its markers.
fn spell(text: &str, markers: &[(u32, String)]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let first = |rest: &str| {
        let found = markers.iter().filter_map(|(id, marker)| {
            let at = rest.find(marker.as_str())?;
            Some((at, at + marker.len(), *id))
        });
        // The longest one at the first position.
        found.min_by_key(|(start, end, _)| (*start, usize::MAX - *end))
    };
    while let Some((start, end, id)) = first(rest) {
        if start > 0 {
            pieces.push(Piece::Text(rest[..start].to_owned()));
        }
        pieces.push(Piece::Token(id));
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_in_the_vocabulary_become_tokens() {
        let markers = [
            (7, "<tool_call>".to_owned()),
            (8, "</tool_call>".to_owned()),
        ];
        assert_eq!(
            spell("\n</tool_call>\n<tool_call>", &markers),
            [
                Piece::Text("\n".into()),
                Piece::Token(8),
                Piece::Text("\n".into()),
                Piece::Token(7),
            ]
        );
        assert_eq!(
            spell("<tool_call>", &[]),
            [Piece::Text("<tool_call>".into())]
        );
        assert_eq!(spell("", &markers), []);
    }
}
