//! The shape that an output is constrained to: a tool call, the request's constraint, or either
//! of the two.

use answer_constraint::{Calls, Function, OutputConstraint, Piece};
use serde_json::{Value, json};
use text_codec::{Codec, ToolStyle};
use worker_contract::{InferRequest, ToolChoice, ToolDefinition};

/// Style of forced tool calls. It needs no markers, so every model can write it.
pub(crate) const FORCED_STYLE: ToolStyle = ToolStyle::Llama;

/// Returns the shape that the output must have, or `None` if it is unconstrained.
pub(crate) fn required_shape(request: &InferRequest, codec: &Codec) -> Option<OutputConstraint> {
    let style = codec.tool_style();
    if request.tool_choice.must_call() {
        return Some(OutputConstraint::Calls(forced(request, style)));
    }
    let constraint = request.constraint.as_ref()?;
    match style.filter(|_| request.may_call()) {
        Some(style) => {
            let mut calls = marked(&request.tools, style, codec);
            calls.divider = calls.divider.filter(|_| request.parallel_tool_calls);
            Some(OutputConstraint::Either(constraint.clone(), calls))
        }
        None => Some(constraint.into()),
    }
}

/// A single call of a function that the tool choice admits, as a plain object.
fn forced(request: &InferRequest, style: Option<ToolStyle>) -> Calls {
    let is_admitted = |tool: &&ToolDefinition| match &request.tool_choice {
        ToolChoice::Named(name) => tool.name == *name,
        _ => true,
    };
    let admitted = request.tools.iter().filter(is_admitted);
    Calls {
        open: Vec::new(),
        divider: None,
        close: Vec::new(),
        functions: admitted.map(|tool| object(tool, style)).collect(),
    }
}

/// Calls in the style of the model.
fn marked(tools: &[ToolDefinition], style: ToolStyle, codec: &Codec) -> Calls {
    let spell = |text: &str| spell(text, codec.markers());
    let objects = || tools.iter().map(|tool| object(tool, Some(style))).collect();
    match style {
        ToolStyle::Llama => Calls {
            open: Vec::new(),
            divider: Some(spell("; ")),
            close: Vec::new(),
            functions: objects(),
        },
        ToolStyle::Hermes => Calls {
            open: spell("<tool_call>\n"),
            divider: Some(spell("\n</tool_call>\n<tool_call>\n")),
            close: spell("\n</tool_call>"),
            functions: objects(),
        },
        // Since version 11, vocabularies have a marker between name and arguments.
        ToolStyle::Mistral if codec.markers().iter().any(|(_, m)| *m == "[ARGS]") => Calls {
            open: spell("[TOOL_CALLS]"),
            divider: Some(spell("[TOOL_CALLS]")),
            close: Vec::new(),
            functions: tools
                .iter()
                .map(|tool| {
                    let mut begin = vec![Piece::Text(tool.name.clone())];
                    begin.extend(spell("[ARGS]"));
                    function(tool, begin, Vec::new())
                })
                .collect(),
        },
        ToolStyle::Mistral => Calls {
            open: spell("[TOOL_CALLS] ["),
            divider: Some(spell(", ")),
            close: spell("]"),
            functions: objects(),
        },
    }
}

/// A call as an object. The name comes first, so that the arguments can be streamed.
fn object(tool: &ToolDefinition, style: Option<ToolStyle>) -> Function {
    let key = match style {
        Some(ToolStyle::Llama) => "parameters",
        _ => "arguments",
    };
    let name = Value::from(tool.name.as_str());
    let begin = format!("{{\"name\": {name}, \"{key}\": ");
    let end = vec![Piece::Text("}".to_owned())];
    function(tool, vec![Piece::Text(begin)], end)
}

fn function(tool: &ToolDefinition, begin: Vec<Piece>, end: Vec<Piece>) -> Function {
    Function {
        name: tool.name.clone(),
        begin,
        arguments: arguments(tool),
        end,
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
fn spell(text: &str, markers: &[(u32, &'static str)]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let first = |rest: &str| {
        let found = markers.iter().filter_map(|(id, marker)| {
            let at = rest.find(marker)?;
            Some((at, at + marker.len(), *id))
        });
        found.min()
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
    use worker_contract::{Constraint, InferInput};

    use super::*;

    fn request(choice: ToolChoice) -> InferRequest {
        let tool = |name: &str, parameters: Option<Value>| ToolDefinition {
            name: name.into(),
            description: None,
            parameters,
            strict: false,
        };
        let input = InferInput::Prompt("x".into());
        InferRequest {
            tools: vec![
                tool("none", None),
                tool("a\"b", Some(json!({"required": ["x"], "type": "array"}))),
                tool("any", Some(json!(true))),
            ],
            tool_choice: choice,
            ..InferRequest::new("r".parse().unwrap(), input)
        }
    }

    fn text(text: &str) -> Vec<Piece> {
        vec![Piece::Text(text.to_owned())]
    }

    #[test]
    fn output_is_unconstrained_unless_requested() {
        let codec = Codec::byte_level();
        for choice in [ToolChoice::Auto, ToolChoice::None] {
            assert_eq!(required_shape(&request(choice), &codec), None);
        }
    }

    #[test]
    fn forced_output_is_a_call_of_an_admitted_function() {
        let codec = Codec::byte_level();
        let mut constrained = request(ToolChoice::Required);
        constrained.constraint = Some(Constraint::JsonObject);
        // A constraint applies to text, and a forced call has none.
        for request in [request(ToolChoice::Required), constrained] {
            let Some(OutputConstraint::Calls(calls)) = required_shape(&request, &codec) else {
                panic!("not a call")
            };
            assert_eq!(
                (calls.open.len(), calls.divider, calls.close.len()),
                (0, None, 0)
            );
            let schemas: Vec<_> = calls.functions.iter().map(|f| &f.arguments).collect();
            assert_eq!(
                schemas,
                [
                    &json!({"type": "object", "additionalProperties": false}),
                    &json!({"required": ["x"], "type": "object"}),
                    &json!({"type": "object"}),
                ]
            );
        }
        let named = request(ToolChoice::Named("a\"b".into()));
        let calls = forced(&named, Some(ToolStyle::Llama));
        assert_eq!(calls.functions.len(), 1);
        assert_eq!(
            calls.functions[0].begin,
            text(r#"{"name": "a\"b", "parameters": "#)
        );
        assert_eq!(
            forced(&named, None).functions[0].begin,
            text(r#"{"name": "a\"b", "arguments": "#)
        );
    }

    #[test]
    fn constrained_output_may_be_calls_in_the_models_style() {
        let codec = Codec::byte_level();
        let mut both = request(ToolChoice::Auto);
        both.constraint = Some(Constraint::JsonObject);
        let Some(OutputConstraint::Either(Constraint::JsonObject, calls)) =
            required_shape(&both, &codec)
        else {
            panic!("not an alternative")
        };
        assert_eq!(calls.open, text("<tool_call>\n"));
        assert!(calls.divider.is_some() && calls.functions.len() == 3);
        both.parallel_tool_calls = false;
        let Some(OutputConstraint::Either(_, calls)) = required_shape(&both, &codec) else {
            panic!("not an alternative")
        };
        assert_eq!(calls.divider, None);
        both.tool_choice = ToolChoice::None;
        assert_eq!(
            required_shape(&both, &codec),
            Some(OutputConstraint::Text(Constraint::JsonObject))
        );
    }

    #[test]
    fn markers_in_the_vocabulary_become_tokens() {
        let markers = [(7, "<tool_call>"), (8, "</tool_call>")];
        assert_eq!(
            spell("\n</tool_call>\n<tool_call>", &markers),
            [
                Piece::Text("\n".into()),
                Piece::Token(8),
                Piece::Text("\n".into()),
                Piece::Token(7),
            ]
        );
        assert_eq!(spell("<tool_call>", &[]), text("<tool_call>"));
        assert_eq!(spell("", &markers), []);
    }
}
