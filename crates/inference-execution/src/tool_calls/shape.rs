//! What an answer must be: where it must be a call, where it has a constraint, or where it
//! has one and may call.

use answer_constraint::{Calls, Function, OutputConstraint, Piece};
use serde_json::{Value, json};
use text_codec::{Codec, ToolStyle};
use worker_contract::{InferRequest, ToolChoice, ToolDefinition};

/// The style in which an answer that must be a call is read: nothing marks it, and every
/// model can write it.
pub(crate) const FORCED: ToolStyle = ToolStyle::Llama;

/// What the answer to `request` must be; `None` when it may be anything.
pub(crate) fn shape(request: &InferRequest, codec: &Codec) -> Option<OutputConstraint> {
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

/// One call of what is meant, as an object with nothing around it.
fn forced(request: &InferRequest, style: Option<ToolStyle>) -> Calls {
    let is_meant = |tool: &&ToolDefinition| match &request.tool_choice {
        ToolChoice::Named(name) => tool.name == *name,
        _ => true,
    };
    let meant = request.tools.iter().filter(is_meant);
    Calls {
        open: Vec::new(),
        divider: None,
        close: Vec::new(),
        functions: meant.map(|tool| object(tool, style)).collect(),
    }
}

/// Calls as models of a style write them.
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
        // Vocabularies since version 11 have a mark between name and arguments.
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

/// A call as an object. The name comes first, so that the arguments can be told as they
/// come.
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

/// The schema of a function's arguments, which are an object whatever else it says.
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

/// A text with the tokens that stand for its marks.
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
    fn the_model_decides_unless_it_is_told() {
        let codec = Codec::byte_level();
        for choice in [ToolChoice::Auto, ToolChoice::None] {
            assert_eq!(shape(&request(choice), &codec), None);
        }
    }

    #[test]
    fn what_is_forced_is_a_call_of_what_is_meant() {
        let codec = Codec::byte_level();
        let mut constrained = request(ToolChoice::Required);
        constrained.constraint = Some(Constraint::JsonObject);
        // A constraint is about text, of which there is none.
        for request in [request(ToolChoice::Required), constrained] {
            let Some(OutputConstraint::Calls(calls)) = shape(&request, &codec) else {
                panic!("no calls")
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
    fn a_constraint_leaves_calls_as_they_are_written() {
        let codec = Codec::byte_level();
        let mut both = request(ToolChoice::Auto);
        both.constraint = Some(Constraint::JsonObject);
        let Some(OutputConstraint::Either(Constraint::JsonObject, calls)) = shape(&both, &codec)
        else {
            panic!("no alternative")
        };
        assert_eq!(calls.open, text("<tool_call>\n"));
        assert!(calls.divider.is_some() && calls.functions.len() == 3);
        both.parallel_tool_calls = false;
        let Some(OutputConstraint::Either(_, calls)) = shape(&both, &codec) else {
            panic!("no alternative")
        };
        assert_eq!(calls.divider, None);
        both.tool_choice = ToolChoice::None;
        assert_eq!(
            shape(&both, &codec),
            Some(OutputConstraint::Text(Constraint::JsonObject))
        );
    }

    #[test]
    fn marks_that_are_tokens_are_spelled_as_tokens() {
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
