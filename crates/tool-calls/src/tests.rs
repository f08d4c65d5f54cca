mod cut_off;
mod properties;
mod samples;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{Functions, Part, ToolCallParser, ToolFormat};

/// The functions that the samples may call.
fn functions() -> Arc<Functions> {
    let weather = json!({"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}, "sure": {"type": "boolean"},
        "opt": {"type": "object"}, "note": {"type": "string"}
    }});
    let plain = ["f", "any", "other", "g"].map(|name| (name.to_owned(), None));
    let weather = [("weather".to_owned(), Some(weather))];
    Arc::new(Functions::new(plain.into_iter().chain(weather)))
}

/// Returns the parts of an output that the model ended and that arrives in `chunks`.
fn parts(format: &'static ToolFormat, chunks: &[&str]) -> Vec<Part> {
    parts_with(format, chunks, ToolCallParser::finish)
}

/// Returns the parts of an output that was cut off.
fn parts_of_cut(format: &'static ToolFormat, output: &str) -> Vec<Part> {
    parts_with(format, &[output], ToolCallParser::cut_off)
}

/// Returns the parts of an output. Adjacent parts of one kind are merged.
fn parts_with(
    format: &'static ToolFormat,
    chunks: &[&str],
    end: fn(&mut ToolCallParser) -> Vec<Part>,
) -> Vec<Part> {
    let mut parser = ToolCallParser::new(format, functions());
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

/// Formats the parts of an output: `text`, `f {…}`, `end`.
fn read(format: &'static ToolFormat, output: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut name = String::new();
    for part in parts(format, &[output]) {
        match part {
            Part::Text(text) => all.push(text),
            Part::Begin(called) => name = called,
            Part::Arguments(arguments) => all.push(format!("{name} {arguments}")),
            Part::End => all.push("end".to_owned()),
        }
    }
    all
}

/// Returns the text and the complete calls of an output.
fn calls(format: &'static ToolFormat, output: &str) -> (String, Vec<(String, Value)>) {
    let (mut text, mut calls, mut arguments) = (String::new(), Vec::new(), String::new());
    let mut name = String::new();
    for part in parts(format, &[output]) {
        match part {
            Part::Text(more) => text.push_str(&more),
            Part::Begin(called) => name = called,
            Part::Arguments(more) => arguments.push_str(&more),
            Part::End => {
                let value = serde_json::from_str(&std::mem::take(&mut arguments)).unwrap();
                calls.push((std::mem::take(&mut name), value));
            }
        }
    }
    assert_eq!(arguments, "", "{}: {output}", format.name);
    (text, calls)
}
