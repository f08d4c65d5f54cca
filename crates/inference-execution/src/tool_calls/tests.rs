use proptest::prelude::*;

use super::*;

const STYLES: [ToolStyle; 3] = [ToolStyle::Llama, ToolStyle::Hermes, ToolStyle::Mistral];

/// Returns the parts of an output that arrives in `chunks`. Adjacent parts of one kind are merged.
fn parts(style: ToolStyle, chunks: &[&str]) -> Vec<Part> {
    let functions = ["f", "weather"].map(str::to_owned);
    let mut parser = ToolCallParser::new(style, functions.into());
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
    merge(parser.finish());
    all
}

/// Formats the parts of an output: `text`, `f {…}`, `end`.
fn read(style: ToolStyle, output: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut name = String::new();
    for part in parts(style, &[output]) {
        match part {
            Part::Text(text) => all.push(text),
            Part::Begin(called) => name = called,
            Part::Arguments(arguments) => all.push(format!("{name} {arguments}")),
            Part::End => all.push("end".to_owned()),
        }
    }
    all
}

#[test]
fn parses_llama_style() {
    for (output, expected) in [
        (
            r#"{"name": "weather", "parameters": {"city": "Pa\"}ris"}}"#,
            &[r#"weather {"city": "Pa\"}ris"}"#, "end"][..],
        ),
        (
            r#" <|python_tag|>{"type": "function", "name": "f", "parameters": {}}"#,
            &["f {}", "end"],
        ),
        (
            "\n{\"name\":\"f\",\"parameters\":{\"a\":[1,{}]}}; {\"name\":\"f\"}\n",
            &["f {\"a\":[1,{}]}", "end", "f {}", "end"],
        ),
        (
            r#"I look. <|python_tag|>{"name": "other", "parameters": {"a": 1}, "id": 5}"#,
            &["I look. ", r#"other {"a": 1}"#, "end"],
        ),
        // Not a call: unknown key, unknown function, after text, not JSON, cut off.
        (
            r#"{"name": "Al", "age": 5}"#,
            &[r#"{"name": "Al", "age": 5}"#],
        ),
        (r#"{"city": "Paris"}"#, &[r#"{"city": "Paris"}"#]),
        (
            r#"So: {"name": "f", "parameters": {}}"#,
            &[r#"So: {"name": "f", "parameters": {}}"#],
        ),
        (
            "<|python_tag|>print(\"x\") <|pyth",
            &["<|python_tag|>print(\"x\") <|pyth"],
        ),
        (r#"{"name": "f", "param"#, &[r#"{"name": "f", "param"#]),
        (" \n", &[" \n"]),
    ] {
        assert_eq!(read(ToolStyle::Llama, output), expected, "{output}");
    }
}

#[test]
fn parses_hermes_style() {
    for (output, expected) in [
        (
            "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": \"</tool_call>\"}}\n</tool_call>",
            &["Let me see.\n", r#"f {"x": "</tool_call>"}"#, "end"][..],
        ),
        (
            "\n\n<tool_call>\n{\"arguments\": {\"x\": 1}, \"name\": \"f\"}\n</tool_call>\n<tool_call>\n{\"name\": \"any\", \"arguments\": \"{\\\"y\\\": 2}\"}\n</tool_call>\n",
            &[r#"f {"x": 1}"#, "end", r#"any {"y": 2}"#, "end"],
        ),
        (
            "<tool_call>{\"name\":\"f\",\"arguments\":null}<tool_call>{\"name\":\"f\",\"arguments\":{}}",
            &["f {}", "end", "f {}", "end"],
        ),
        (
            "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>\n\nDone </tool_call>",
            &["f {}", "end", "\n\nDone </tool_call>"],
        ),
        // Cut off in the arguments, which are returned as far as they go.
        (
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": \"a",
            &[r#"f {"x": "a"#],
        ),
        // Not a call.
        (
            "<tool_call>nothing</tool_call>",
            &["<tool_call>nothing</tool_call>"],
        ),
        (
            "<tool_call><tool_call>{\"name\": \"f\"}",
            &["<tool_call>", "f {}", "end"],
        ),
        (
            "<tool_call>{\"name\": 5, \"arguments\": {}}",
            &["<tool_call>{\"name\": 5, \"arguments\": {}}"],
        ),
        (
            "<tool_call>{\"arguments\": {\"x\": }, \"name\": \"f\"}",
            &["<tool_call>{\"arguments\": {\"x\": }, \"name\": \"f\"}"],
        ),
        ("a < b <tool_", &["a < b <tool_"]),
        (
            "{\"name\": \"f\", \"arguments\": {}}",
            &["{\"name\": \"f\", \"arguments\": {}}"],
        ),
    ] {
        assert_eq!(read(ToolStyle::Hermes, output), expected, "{output}");
    }
}

#[test]
fn parses_mistral_style() {
    for (output, expected) in [
        (
            "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"x\": [1]}}, {\"name\": \"g\", \"arguments\": {}}]",
            &[r#"f {"x": [1]}"#, "end", "g {}", "end"][..],
        ),
        (
            "Sure. [TOOL_CALLS]weather[ARGS]{\"city\": \"Paris\"}[TOOL_CALLS]f[CALL_ID]a1B2c3D4e[ARGS] {}",
            &[
                "Sure. ",
                r#"weather {"city": "Paris"}"#,
                "end",
                "f {}",
                "end",
            ],
        ),
        ("[TOOL_CALLS]f{\"a\": 1}", &[r#"f {"a": 1}"#, "end"]),
        (
            "[TOOL_CALLS]{\"name\": \"f\", \"arguments\": {}, \"id\": \"a1B2c3D4e\"}",
            &["f {}", "end"],
        ),
        (
            "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}, oops]",
            &["f {}", "end", ", oops]"],
        ),
        // Not a call.
        ("[TOOL_CALLS] nothing here", &["[TOOL_CALLS] nothing here"]),
        ("[TOOL_CALLS]f[ARG]{}", &["[TOOL_CALLS]f[ARG]{}"]),
        ("[TOOL_CALLS]f[ARGS]5", &["[TOOL_CALLS]f[ARGS]5"]),
        ("[1, 2] [TOOL", &["[1, 2] [TOOL"]),
        ("[TOOL_CALLS]", &["[TOOL_CALLS]"]),
    ] {
        assert_eq!(read(ToolStyle::Mistral, output), expected, "{output}");
    }
}

#[test]
fn arguments_are_returned_as_they_arrive() {
    let mut parser = ToolCallParser::new(ToolStyle::Hermes, [].into());
    assert_eq!(parser.push("<tool_call>\n{\"name\": \"f\", \"argu"), []);
    assert_eq!(
        parser.push("ments\": {\"te"),
        [Part::Begin("f".into()), Part::Arguments("{\"te".into())]
    );
    assert_eq!(parser.push("xt\""), [Part::Arguments("xt\"".into())]);
    assert_eq!(
        parser.push(": 1}}"),
        [Part::Arguments(": 1}".into()), Part::End]
    );
}

/// Texts composed of syntax elements.
fn any_output() -> impl Strategy<Value = String> {
    let elements = prop::sample::select(vec![
        "<tool_call>",
        "</tool_call>",
        "<|python_tag|>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "[CALL_ID]",
        "<tool",
        "{\"name\": \"f\", ",
        "\"arguments\": {",
        "\"parameters\": {\"x\": \"é\"}",
        "{\"name\": \"f\", \"arguments\": {\"a\": 1}}",
        "f",
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        ";",
        " ",
        "\n",
        "null",
        "🐝",
    ]);
    prop_oneof![
        3 => prop::collection::vec(elements, 0..14).prop_map(|elements| elements.concat()),
        1 => ".{0,30}",
    ]
}

proptest! {
    #[test]
    fn token_boundaries_do_not_affect_the_parts(
        output in any_output(),
        cuts in prop::collection::vec(0..200_usize, 0..12),
    ) {
        let mut cuts: Vec<usize> =
            cuts.into_iter().filter(|c| output.is_char_boundary(*c)).collect();
        cuts.extend([0, output.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&str> = cuts.windows(2).map(|w| &output[w[0]..w[1]]).collect();
        for style in STYLES {
            prop_assert_eq!(parts(style, &chunks), parts(style, &[&output]));
        }
    }

    #[test]
    fn only_tool_call_syntax_is_dropped(output in any_output()) {
        for style in STYLES {
            let all = parts(style, &[&output]);
            let mut rest = output.chars();
            let mut calls = 0;
            for part in &all {
                match part {
                    // The text is a subsequence of the output.
                    Part::Text(text) => {
                        let in_order = text.chars().all(|c| rest.any(|other| other == c));
                        prop_assert!(in_order, "{:?}: {:?} is not in the output", style, text);
                    }
                    Part::Begin(_) => calls += 1,
                    Part::Arguments(text) => prop_assert_eq!(text.chars().next(), Some('{')),
                    Part::End => {}
                }
            }
            if calls == 0 {
                prop_assert_eq!(all, Vec::from_iter((!output.is_empty()).then(|| Part::Text(output.clone()))));
            }
        }
    }

    /// A call after any text is parsed in every style.
    #[test]
    fn call_round_trips(
        before in "[a-z .]{0,12}",
        arguments in prop::collection::btree_map("[a-z]{1,4}", "\\PC{0,8}", 0..3),
    ) {
        let arguments = serde_json::to_string(&arguments).unwrap();
        for (style, call) in [
            (ToolStyle::Llama, format!("<|python_tag|>{{\"name\": \"f\", \"parameters\": {arguments}}}")),
            (ToolStyle::Hermes, format!("<tool_call>\n{{\"name\": \"f\", \"arguments\": {arguments}}}\n</tool_call>")),
            (ToolStyle::Mistral, format!("[TOOL_CALLS] [{{\"name\": \"f\", \"arguments\": {arguments}}}]")),
            (ToolStyle::Mistral, format!("[TOOL_CALLS]f[ARGS]{arguments}")),
        ] {
            let mut expected = vec![
                Part::Begin("f".into()),
                Part::Arguments(arguments.clone()),
                Part::End,
            ];
            if !before.trim().is_empty() {
                expected.insert(0, Part::Text(before.clone()));
            }
            prop_assert_eq!(parts(style, &[&before, &call]), expected);
        }
    }
}
