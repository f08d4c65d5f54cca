//! Outputs that were cut off, by a limit of tokens for example.

use proptest::prelude::*;

use super::{
    parts, parts_of_cut,
    properties::{calls_of_f, write},
    samples::TWO_CALLS,
};
use crate::{Part, ToolFormat};

/// The text, and the name and arguments of each call.
fn text_and_calls(parts: Vec<Part>) -> (String, Vec<(String, String)>) {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for part in parts {
        match part {
            Part::Text(more) => text.push_str(&more),
            Part::Begin(name) => calls.push((name, String::new())),
            Part::Arguments(more) => calls.last_mut().unwrap().1.push_str(&more),
            Part::End => {}
        }
    }
    (text, calls)
}

/// Wherever an output with calls ends, its text has no syntax of a call, and its calls are the
/// starts of those of the complete output.
fn check_all_cuts(format: &'static ToolFormat, output: &str, before: &str) {
    let (_, complete) = text_and_calls(parts(format, &[output]));
    for cut in (0..output.len()).filter(|cut| output.is_char_boundary(*cut)) {
        let output = &output[..cut];
        let (text, calls) = text_and_calls(parts_of_cut(format, output));
        let context = format!("{}: {output:?}: {text:?} {calls:?}", format.name);
        assert!(before.starts_with(text.trim_end()), "{context}");
        assert!(calls.len() <= complete.len(), "{context}");
        for (nth, (name, arguments)) in calls.iter().enumerate() {
            assert_eq!(*name, complete[nth].0, "{context}");
            assert!(complete[nth].1.starts_with(arguments), "{context}");
            assert!(arguments.starts_with('{'), "{context}");
        }
    }
}

#[test]
fn no_syntax_of_a_call_becomes_text_where_an_output_is_cut_off() {
    for (format, output) in TWO_CALLS {
        check_all_cuts(format, output, "Look.");
    }
}

#[test]
fn a_call_whose_function_is_known_keeps_its_arguments() {
    for (format, output, name, arguments) in [
        (
            &ToolFormat::HERMES,
            "<tool_call>{\"name\": \"f\", \"arg",
            "f",
            "{",
        ),
        (
            &ToolFormat::HERMES,
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": [1",
            "f",
            "{\"a\": [1",
        ),
        // Arguments as the text of an object, cut off within an escape.
        (
            &ToolFormat::HERMES,
            "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1, \\u00",
            "f",
            "{\"a\": 1, ",
        ),
        // Arguments before the name.
        (
            &ToolFormat::HERMES,
            "<tool_call>{\"arguments\": {\"a\": 1}, \"name\": \"f\"",
            "f",
            "{\"a\": 1}",
        ),
        (&ToolFormat::MISTRAL_NAMED, "[TOOL_CALLS]f[AR", "f", "{"),
        (
            &ToolFormat::QWEN_XML,
            "<tool_call>\n<function=weather>\n<parameter=city>\nPar\n</para",
            "weather",
            "{\"city\": \"Par",
        ),
        // A number is not known before its end.
        (
            &ToolFormat::QWEN_XML,
            "<tool_call>\n<function=weather>\n<parameter=days>\n1",
            "weather",
            "{\"days\": ",
        ),
        (
            &ToolFormat::PYTHONIC,
            "[f(a=1, b=[True, 'it\\'s",
            "f",
            "{\"a\": 1, \"b\": [true, \"it's",
        ),
        (
            &ToolFormat::GEMMA,
            "<|tool_call>call:f{a:1,b:<|\"|>x<|",
            "f",
            "{\"a\": 1, \"b\": \"x",
        ),
    ] {
        let expected = [
            Part::Begin(name.to_owned()),
            Part::Arguments(arguments.to_owned()),
        ];
        assert_eq!(parts_of_cut(format, output), expected, "{output}");
    }
}

#[test]
fn text_that_is_no_syntax_is_kept_where_an_output_is_cut_off() {
    for (format, output, text) in [
        (&ToolFormat::HERMES, "a < b and b > c", "a < b and b > c"),
        (&ToolFormat::HERMES, "a <tool", "a "),
        (&ToolFormat::HERMES, "\n", "\n"),
        (
            &ToolFormat::HERMES,
            "<tool_call> no call",
            "<tool_call> no call",
        ),
        (
            &ToolFormat::HERMES,
            "<tool_call>{\"name\": \"unknown\", \"arg",
            "<tool_call>{\"name\": \"unknown\", \"arg",
        ),
        (&ToolFormat::PYTHONIC, "[1] is a list", "[1] is a list"),
        (&ToolFormat::LLAMA, "{\"a\": 1", "{\"a\": 1"),
    ] {
        let expected = [Part::Text(text.to_owned())];
        assert_eq!(parts_of_cut(format, output), expected, "{output}");
    }
}

proptest! {
    #![proptest_config(fuzzing::cases(100))]

    #[test]
    fn no_syntax_of_any_call_becomes_text_where_an_output_is_cut_off(
        format in prop::sample::select(ToolFormat::ALL),
        before in "[A-Z .]{0,12}",
        first in calls_of_f(),
        second in calls_of_f(),
    ) {
        let calls = [("f", &first), ("weather", &second)];
        let one = format.layout.between.is_none();
        let output = write(format, if one { &calls[..1] } else { &calls[..] });
        let separate = format.layout.unmarked.is_none() && !format.layout.prefilled;
        let before = if separate { before } else { String::new() };
        check_all_cuts(format, &format!("{before}{output}"), &before);
    }
}
