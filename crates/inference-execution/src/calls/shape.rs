//! The form that an output is constrained to: a tool call, the request's constraint, either of the
//! two, or text with calls in it.

use answer_constraint::OutputConstraint;
use text_codec::{Codec, ToolFormat};
use worker_contract::{Constraint, InferRequest, ToolChoice, ToolDefinition};

use super::syntax::Writer;

/// The form that an output must have.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Shape {
    /// `None` if the output is unconstrained.
    pub constraint: Option<OutputConstraint>,
    /// What is not enforced, as a sentence for the user.
    pub note: Option<String>,
}

/// Returns the form that the output must have.
pub(crate) fn required_shape(request: &InferRequest, codec: &Codec) -> Shape {
    if request.tool_choice.must_call() {
        let format = codec.tool_format().unwrap_or(&ToolFormat::GENERAL);
        let calls = Writer { format, codec }.calls(admitted(request), false);
        return Shape::of(OutputConstraint::Calls(calls));
    }
    let format = codec.tool_format().filter(|_| request.may_call());
    match (&request.constraint, format) {
        (None, None) => Shape::default(),
        (Some(constraint), None) => Shape::of(constraint.into()),
        (Some(constraint), Some(format)) => {
            let several = request.parallel_tool_calls;
            let calls = Writer { format, codec }.calls(&request.tools, several);
            Shape::of(OutputConstraint::Either(constraint.clone(), calls))
        }
        (None, Some(format)) => text_with_calls(request, format, codec),
    }
}

impl Shape {
    fn of(constraint: OutputConstraint) -> Self {
        Self {
            constraint: Some(constraint),
            note: None,
        }
    }
}

/// The form of text that may contain calls. It is constrained only where this is necessary: for
/// functions whose calls always match their parameters, and for a model whose own format of calls
/// is unknown. Such a model learns the functions from its chat template; whatever it would write
/// to call one, the output either begins with a brace and is a call in the general format, or is
/// text.
fn text_with_calls(request: &InferRequest, format: &'static ToolFormat, codec: &Codec) -> Shape {
    let is_strict = request.tools.iter().any(|tool| tool.strict);
    let is_general = *format == ToolFormat::GENERAL && !codec.end_tokens().is_empty();
    if !is_strict && !is_general {
        return Shape::default();
    }
    let writer = Writer { format, codec };
    let several = request.parallel_tool_calls;
    if let Some(name) = format.layout.text_name {
        // The output begins with the name of a function or with the one that stands for text.
        let begin = serde_json::Value::from(name);
        let mark = format.layout.open;
        let text = format!("start: {begin} TEXT\nTEXT: /(?s:.*)/ & ~/(?s:.*{mark}.*)/");
        let calls = writer.calls(&request.tools, several);
        let text = Constraint::Grammar(text);
        return Shape::of(OutputConstraint::Either(text, calls));
    }
    match writer.calls_in_text(&request.tools, several) {
        Some((trigger, calls)) => Shape::of(OutputConstraint::Mixed(trigger, calls)),
        None => Shape {
            constraint: None,
            note: Some(format!(
                "`strict` of tools is not enforced in the format {}",
                format.name
            )),
        },
    }
}

/// The functions that the tool choice admits.
fn admitted(request: &InferRequest) -> impl Iterator<Item = &ToolDefinition> {
    request
        .tools
        .iter()
        .filter(|tool| match &request.tool_choice {
            ToolChoice::Named(name) => tool.name == *name,
            _ => true,
        })
}

#[cfg(test)]
mod tests {
    use answer_constraint::{Calls, Compiler, Piece, Trigger, Vocabulary};
    use serde_json::{Value, json};
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

    fn constraint(request: &InferRequest) -> Option<OutputConstraint> {
        let shape = required_shape(request, &Codec::byte_level());
        assert_eq!(shape.note, None);
        shape.constraint
    }

    #[test]
    fn output_is_unconstrained_unless_requested() {
        for choice in [ToolChoice::Auto, ToolChoice::None] {
            assert_eq!(constraint(&request(choice)), None);
        }
    }

    #[test]
    fn forced_output_is_a_call_of_an_admitted_function() {
        let mut constrained = request(ToolChoice::Required);
        constrained.constraint = Some(Constraint::JsonObject);
        // A constraint applies to text, and a forced call has none.
        for request in [request(ToolChoice::Required), constrained] {
            let Some(OutputConstraint::Calls(calls)) = constraint(&request) else {
                panic!("not a call")
            };
            assert_eq!(calls.open, text("<tool_call>\n"));
            assert_eq!(calls.close, text("\n</tool_call>"));
            assert_eq!(calls.divider, None);
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
        let codec = Codec::byte_level();
        for (format, begin) in [
            (&ToolFormat::LLAMA, r#"{"name": "a\"b", "parameters": "#),
            (&ToolFormat::GENERAL, r#"{"name": "a\"b", "arguments": "#),
        ] {
            let writer = Writer {
                format,
                codec: &codec,
            };
            let calls = writer.calls(admitted(&named), false);
            assert_eq!(calls.functions.len(), 1);
            assert_eq!(calls.functions[0].begin, text(begin));
        }
    }

    #[test]
    fn constrained_output_may_be_calls_in_the_models_format() {
        let mut both = request(ToolChoice::Auto);
        both.constraint = Some(Constraint::JsonObject);
        let Some(OutputConstraint::Either(Constraint::JsonObject, calls)) = constraint(&both)
        else {
            panic!("not an alternative")
        };
        assert_eq!(calls.open, text("<tool_call>\n"));
        assert!(calls.divider.is_some() && calls.functions.len() == 3);
        both.parallel_tool_calls = false;
        let Some(OutputConstraint::Either(_, calls)) = constraint(&both) else {
            panic!("not an alternative")
        };
        assert_eq!(calls.divider, None);
        both.tool_choice = ToolChoice::None;
        assert_eq!(
            constraint(&both),
            Some(OutputConstraint::Text(Constraint::JsonObject))
        );
    }

    #[test]
    fn strict_functions_constrain_calls_in_text() {
        let mut strict = request(ToolChoice::Auto);
        strict.tools[0].strict = true;
        let Some(OutputConstraint::Mixed(trigger, calls)) = constraint(&strict) else {
            panic!("not mixed")
        };
        let mark = Piece::Text("<tool_call>".into());
        let excluded = Vec::new();
        assert_eq!(trigger, Trigger::Mark { mark, excluded });
        assert_eq!((calls.open, calls.divider), (text("\n"), None));
        assert!(calls.functions[0].strict && !calls.functions[1].strict);
    }

    /// Every format can be constrained in free text, if its marks are plain text.
    #[test]
    fn every_format_has_a_trigger() {
        let codec = Codec::byte_level();
        for format in ToolFormat::ALL {
            let writer = Writer {
                format,
                codec: &codec,
            };
            let tools = request(ToolChoice::Auto).tools;
            let Some((trigger, Calls { functions, .. })) = writer.calls_in_text(&tools, true)
            else {
                panic!("{}", format.name)
            };
            assert_eq!(functions.len(), 3);
            match trigger {
                Trigger::Start(first) => assert_eq!(format.layout.unmarked, Some(first)),
                Trigger::Mark { mark, .. } => assert!(matches!(mark, Piece::Text(_))),
            }
        }
    }

    /// The grammars of every format compile, for calls alone and within text.
    #[test]
    fn every_format_can_be_enforced() {
        let codec = Codec::byte_level();
        let compiler = Compiler::new(|| Vocabulary {
            tokens: (0..=u8::MAX)
                .map(|byte| vec![byte])
                .chain([vec![]])
                .collect(),
            end_tokens: vec![256],
        });
        let mut request = request(ToolChoice::Auto);
        request.tools[1].name = "f".into();
        request.tools[1].parameters = Some(json!({
            "type": "object", "required": ["s"], "properties": {
                "s": {"type": "string"}, "n": {"type": "integer"}, "e": {"enum": ["a", "b"]}
            }
        }));
        for format in ToolFormat::ALL {
            let writer = Writer {
                format,
                codec: &codec,
            };
            let several = OutputConstraint::Calls(writer.calls(&request.tools, true));
            let mut forms = vec![several];
            let in_text = writer.calls_in_text(&request.tools, true);
            forms.extend(in_text.map(|(trigger, calls)| OutputConstraint::Mixed(trigger, calls)));
            for form in forms {
                if let Err(error) = compiler.compile(form, &[]) {
                    panic!("{}: {error}", format.name);
                }
            }
        }
    }
}
