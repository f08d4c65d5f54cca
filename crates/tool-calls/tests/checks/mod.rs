//! Properties that hold for every output of a model, whatever it is.

use std::sync::Arc;

use serde_json::{Value, json};
use tool_calls::{Functions, Part, ToolCallParser, ToolFormat};

pub const WORDS: &[&str] = &[
    "f",
    "weather",
    "city",
    "days",
    "{\"name\": \"f\", ",
    "\"arguments\": {",
    "\"parameters\": {}",
    "<tool_call>",
    "</tool_call>",
    "<function=",
    "<parameter=",
    "</parameter>",
    "<arg_key>",
    "</arg_value>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<|\"|>",
    "'''",
    "\\",
    "\u{1f41d}",
];

/// An input is the name of a format, a line feed and an output in it. The parts do not depend on
/// the cut into tokens, the text is that of the output, and the arguments of complete calls are
/// objects.
pub fn output(document: &[u8]) {
    let Ok(document) = std::str::from_utf8(document) else {
        return;
    };
    let Some((name, output)) = document.split_once('\n') else {
        return;
    };
    for format in ToolFormat::ALL {
        if format.name == name || name == "any" {
            check(format, output);
        }
    }
}

fn check(format: &'static ToolFormat, output: &str) {
    let whole = parts(format, &mut std::iter::once(output));
    let mut characters = output.split_inclusive(|_| true);
    assert_eq!(whole, parts(format, &mut characters), "{}", format.name);
    in_order(format, output, &whole);
    let cut = parts_with(
        format,
        &mut std::iter::once(output),
        ToolCallParser::cut_off,
    );
    in_order(format, output, &cut);
    if whole.iter().all(|part| matches!(part, Part::Text(_))) && format.layout.text_name.is_none() {
        let text: String = whole.iter().map(text_of).collect();
        assert_eq!(text, output, "{}", format.name);
    }
}

/// The text is in the output, and calls are of offered functions, with objects as arguments.
fn in_order(format: &ToolFormat, output: &str, parts: &[Part]) {
    let mut rest = output.chars();
    let mut arguments = String::new();
    for part in parts {
        match part {
            Part::Text(text) => {
                let in_order = text.chars().all(|c| rest.any(|other| other == c));
                assert!(in_order, "{}: {text:?} is not in the output", format.name);
            }
            Part::Begin(called) => {
                assert!(["f", "weather"].contains(&called.as_str()));
                arguments.clear();
            }
            Part::Arguments(more) => arguments.push_str(more),
            // JSON that the model wrote is returned as it is, valid or not.
            Part::End => assert!(arguments.starts_with('{')),
        }
    }
}

fn text_of(part: &Part) -> &str {
    match part {
        Part::Text(text) => text,
        _ => "",
    }
}

/// Returns the parts of an output that the model ended.
pub fn parts(format: &'static ToolFormat, chunks: &mut dyn Iterator<Item = &str>) -> Vec<Part> {
    parts_with(format, chunks, ToolCallParser::finish)
}

/// Returns the parts of an output. Adjacent parts of one kind are merged.
fn parts_with(
    format: &'static ToolFormat,
    chunks: &mut dyn Iterator<Item = &str>,
    end: fn(&mut ToolCallParser) -> Vec<Part>,
) -> Vec<Part> {
    let weather = json!({"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}});
    let functions = [
        ("f".to_owned(), None::<Value>),
        ("weather".to_owned(), Some(weather)),
    ];
    let mut parser = ToolCallParser::new(format, Arc::new(Functions::new(functions)));
    let mut all: Vec<Part> = Vec::new();
    let mut merge = |parts: Vec<Part>| {
        for part in parts {
            match (all.last_mut(), part) {
                (Some(Part::Text(last)), Part::Text(more))
                | (Some(Part::Arguments(last)), Part::Arguments(more)) => last.push_str(&more),
                (_, part) => all.push(part),
            }
        }
    };
    for chunk in chunks {
        merge(parser.push(chunk));
    }
    merge(end(&mut parser));
    all
}
