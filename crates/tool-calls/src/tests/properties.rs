use proptest::prelude::*;
use serde_json::{Map, Value};

use super::parts;
use crate::{Arguments, Call, Item, Part, ToolFormat};

/// Texts composed of syntax elements, mostly of one format.
fn any_output() -> impl Strategy<Value = (&'static ToolFormat, String)> {
    let general = [
        "{\"name\": \"f\", ",
        "\"arguments\": {",
        "\"parameters\": {\"x\": \"é\"}",
        "{\"name\": \"f\", \"arguments\": {\"a\": 1}}",
        "{\"a\": 1}",
        "f",
        "f(a=1, b='x')",
        "f{a:1}",
        "weather",
        "city",
        "all\n",
        "\"",
        "'",
        "\\",
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        ",",
        ":",
        ";",
        ">",
        "<",
        " ",
        "\n",
        "null",
        "🐝",
    ];
    prop::sample::select(ToolFormat::ALL).prop_flat_map(move |format| {
        let mut elements: Vec<&'static str> = general.to_vec();
        let texts = format.texts();
        // Incomplete marks, too.
        elements.extend(
            texts
                .iter()
                .map(|text| &text[..text.floor_char_boundary(text.len() / 2)]),
        );
        for _ in 0..4 {
            elements.extend(&texts);
        }
        let elements = prop::sample::select(elements);
        let mixed = prop::collection::vec(elements, 0..24).prop_map(|elements| elements.concat());
        let damaged = (
            calls_of_f(),
            any::<prop::sample::Index>(),
            any::<prop::sample::Index>(),
        )
            .prop_map(move |(arguments, from, to)| {
                let text = write(format, &[("f", &arguments), ("weather", &arguments)]);
                let chars: Vec<char> = text.chars().collect();
                let (from, to) = (from.index(chars.len()), to.index(chars.len()));
                let removed = from.min(to)..from.max(to).min(from.min(to) + 5);
                let kept = |(at, c): (usize, &char)| (!removed.contains(&at)).then_some(*c);
                chars.iter().enumerate().filter_map(kept).collect()
            });
        let output = prop_oneof![3 => mixed, 2 => damaged, 1 => ".{0,30}"];
        output.prop_map(move |output| (format, output))
    })
}

pub(super) fn calls_of_f() -> impl Strategy<Value = Map<String, Value>> {
    let value = prop_oneof![
        "[a-z é'\"\\\\(){}<>,:]{0,8}".prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        prop::collection::vec(any::<u8>(), 0..3).prop_map(Value::from),
    ];
    prop::collection::btree_map("[a-z]{1,4}", value, 0..3).prop_map(|m| m.into_iter().collect())
}

/// Writes calls as the description of the format says.
pub(super) fn write(format: &ToolFormat, calls: &[(&str, &Map<String, Value>)]) -> String {
    let layout = &format.layout;
    let one = |(name, arguments): &(&str, &Map<String, Value>)| {
        let quoted = Value::from(*name);
        let json = Value::Object((*arguments).clone()).to_string();
        match &format.call {
            Call::Object { begin, arguments } => format!("{begin}{quoted}{arguments}{json}}}"),
            Call::Named {
                head,
                arguments: syntax,
                end,
            } => {
                let head: String = head
                    .iter()
                    .map(|item| match item {
                        Item::Text(text) | Item::Optional(text) | Item::Any(text) => *text,
                        Item::MaybeId(_) => "",
                        Item::Name => name,
                    })
                    .collect();
                format!(
                    "{head}{}{}",
                    write_arguments(syntax, arguments),
                    end.concat()
                )
            }
        }
    };
    let mut all = String::new();
    if layout.each {
        let calls = calls
            .iter()
            .map(|call| format!("{}{}{}", layout.open, one(call), layout.close));
        all.push_str(
            &calls
                .collect::<Vec<_>>()
                .join(layout.between.unwrap_or_default()),
        );
    } else {
        let calls: Vec<String> = calls.iter().map(one).collect();
        all.push_str(layout.open);
        all.push_str(&calls.join(layout.between.unwrap_or_default()));
        all.push_str(layout.close);
    }
    match all.strip_prefix(layout.open) {
        Some(rest) if layout.prefilled => rest.to_owned(),
        _ => all,
    }
}

fn write_arguments(syntax: &Arguments, arguments: &Map<String, Value>) -> String {
    match syntax {
        Arguments::Json => Value::Object(arguments.clone()).to_string(),
        Arguments::Fields(fields) => {
            let one = |(key, value): (&String, &Value)| {
                let text = match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                let pad = fields.pad;
                format!(
                    "{}{key}{}{}{pad}{text}{pad}{}",
                    fields.open, fields.key_end, fields.value, fields.close
                )
            };
            arguments
                .iter()
                .map(one)
                .collect::<Vec<_>>()
                .join(fields.between)
        }
        Arguments::Python => {
            let one = |(key, value): (&String, &Value)| format!("{key}={value}");
            arguments.iter().map(one).collect::<Vec<_>>().join(", ") + ")"
        }
        Arguments::Gemma => {
            let one = |(key, value): (&String, &Value)| match value {
                Value::String(text) => format!("{key}:<|\"|>{text}<|\"|>"),
                other => format!("{key}:{other}"),
            };
            arguments.iter().map(one).collect::<Vec<_>>().join(",") + "}"
        }
    }
}

proptest! {
    #![proptest_config(fuzzing::cases(3000))]

    #[test]
    fn token_boundaries_do_not_affect_the_parts(
        (format, output) in any_output(),
        cuts in prop::collection::vec(0..300_usize, 0..12),
    ) {
        let mut cuts: Vec<usize> =
            cuts.into_iter().filter(|c| output.is_char_boundary(*c)).collect();
        cuts.extend([0, output.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&str> = cuts.windows(2).map(|w| &output[w[0]..w[1]]).collect();
        prop_assert_eq!(parts(format, &chunks), parts(format, &[&output]));
    }

    #[test]
    fn only_tool_call_syntax_is_dropped((format, output) in any_output()) {
        let all = parts(format, &[&output]);
        let mut rest = output.chars();
        let mut calls = 0;
        for (nth, part) in all.iter().enumerate() {
            match part {
                // The text is a subsequence of the output.
                Part::Text(text) => {
                    let in_order = text.chars().all(|c| rest.any(|other| other == c));
                    prop_assert!(in_order, "{}: {:?} is not in the output", format.name, text);
                }
                Part::Begin(_) => calls += 1,
                Part::Arguments(text) => {
                    prop_assert_eq!(text.chars().next(), Some('{'));
                    prop_assert!(matches!(all[nth - 1], Part::Begin(_)));
                }
                Part::End => prop_assert!(matches!(all[nth - 1], Part::Arguments(_))),
            }
        }
        if calls == 0 {
            // The name that stands for text is syntax.
            let mut text = output.clone();
            if let Some(name) = format.layout.text_name {
                let name = name.trim();
                text = text.replace(&format!(">>>{name}\n"), "");
                prop_assume!(!output.contains(name));
            }
            prop_assert_eq!(all, Vec::from_iter((!text.is_empty()).then_some(Part::Text(text))));
        }
    }

    /// What a format writes is read again, with text before it.
    #[test]
    fn calls_round_trip(
        format in prop::sample::select(ToolFormat::ALL),
        before in "[a-z .]{0,12}",
        first in calls_of_f(),
        second in calls_of_f(),
    ) {
        let one = format.layout.between.is_none();
        let calls = [("f", &first), ("g", &second)];
        let calls = if one { &calls[..1] } else { &calls[..] };
        let mut output = write(format, calls);
        let mut text = String::new();
        if format.layout.unmarked.is_none() && !format.layout.prefilled {
            output.insert_str(0, &before);
            if !before.trim().is_empty() {
                text.push_str(&before);
            }
        }
        let (read_text, read) = super::calls(format, &output);
        prop_assert_eq!(read_text, text, "{}: {}", format.name, output);
        prop_assert_eq!(read.len(), calls.len(), "{}: {}", format.name, output);
        for ((name, arguments), (read_name, read)) in calls.iter().zip(&read) {
            prop_assert_eq!(name, read_name);
            let typed = matches!(format.call, Call::Named { arguments: Arguments::Fields(_), .. });
            let expected = Value::Object((*arguments).clone());
            // Without types, text that looks like a literal becomes one.
            prop_assert!(typed || *read == expected, "{}: {} {}", format.name, output, read);
        }
    }
}
