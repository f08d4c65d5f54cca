use serde_json::{Value, json};

use super::{calls, functions, read};
use crate::{Part, ToolCallParser, ToolFormat};

/// Outputs as the models write them: a call of `weather` with all kinds of arguments, then another
/// one, after the text "Look.".
pub(super) const TWO_CALLS: &[(&ToolFormat, &str)] = &[
    (
        &ToolFormat::HERMES,
        "Look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}}\n</tool_call>\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>",
    ),
    (
        &ToolFormat::MISTRAL,
        "Look.[TOOL_CALLS][{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}, \"id\": \"abcdefgh1\"}, {\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}, \"id\": \"abcdefgh2\"}]",
    ),
    (
        &ToolFormat::MISTRAL_NAMED,
        "Look.[TOOL_CALLS]weather[CALL_ID]abcdefgh1[ARGS]{\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}[TOOL_CALLS]weather[ARGS]{\"city\": \"Bern\"}",
    ),
    (
        &ToolFormat::QWEN_XML,
        "Look.\n\n<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n3\n</parameter>\n<parameter=opt>\n{\"x\": [1, true, null]}\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=weather>\n<parameter=city>\nBern\n</parameter>\n</function>\n</tool_call>",
    ),
    // Without the first mark, and both calls within one.
    (
        &ToolFormat::QWEN_XML,
        "Look.\n<function=weather>\n<parameter=city>Paris</parameter>\n<parameter=days>3</parameter><parameter=opt>{\"x\": [1, true, null]}</parameter></function>\n<function=weather><parameter=city>\nBern\n</parameter></function>\n</tool_call>",
    ),
    (
        &ToolFormat::SEED,
        "Look.\n<seed:tool_call>\n<function=weather>\n<parameter=city>Paris</parameter>\n<parameter=days>3</parameter>\n<parameter=opt>{'x': [1, True, None]}</parameter>\n</function>\n</seed:tool_call>\n<seed:tool_call>\n<function=weather>\n<parameter=city>Bern</parameter>\n</function>\n</seed:tool_call>",
    ),
    (
        &ToolFormat::GLM,
        "Look.\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n<arg_key>opt</arg_key>\n<arg_value>{\"x\": [1, true, null]}</arg_value>\n</tool_call>\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Bern</arg_value>\n</tool_call>",
    ),
    (
        &ToolFormat::GLM,
        "Look.<tool_call>weather<arg_key>city</arg_key><arg_value>Paris</arg_value><arg_key>days</arg_key><arg_value>3</arg_value><arg_key>opt</arg_key><arg_value>{\"x\": [1, true, null]}</arg_value></tool_call><tool_call>weather<arg_key>city</arg_key><arg_value>Bern</arg_value></tool_call>",
    ),
    (
        &ToolFormat::HUNYUAN,
        "Look.<tool_calls:opensource>\n<tool_call:opensource>weather<tool_sep:opensource>\n<arg_key:opensource>city</arg_key:opensource>\n<arg_value:opensource>Paris</arg_value:opensource>\n<arg_key:opensource>days</arg_key:opensource>\n<arg_value:opensource>3</arg_value:opensource>\n<arg_key:opensource>opt</arg_key:opensource>\n<arg_value:opensource>{\"x\": [1, true, null]}</arg_value:opensource>\n</tool_call:opensource>\n<tool_call:opensource>weather<tool_sep:opensource>\n<arg_key:opensource>city</arg_key:opensource>\n<arg_value:opensource>Bern</arg_value:opensource>\n</tool_call:opensource>\n</tool_calls:opensource>",
    ),
    (
        &ToolFormat::MINIMAX,
        "Look.\n<minimax:tool_call>\n<invoke name=\"weather\">\n<parameter name=\"city\">Paris</parameter>\n<parameter name=\"days\">3</parameter>\n<parameter name=\"opt\">{\"x\": [1, true, null]}</parameter>\n</invoke>\n<invoke name=\"weather\">\n<parameter name=\"city\">Bern</parameter>\n</invoke>\n</minimax:tool_call>",
    ),
    (
        &ToolFormat::ATEM,
        "Look.<atem:function_calls>\n<atem:invoke name=\"weather\">\n<atem:parameter name=\"city\">Paris</atem:parameter>\n<atem:parameter name=\"days\">3</atem:parameter>\n<atem:parameter name=\"opt\">{\"x\": [1, true, null]}</atem:parameter>\n</atem:invoke>\n<atem:invoke name=\"weather\">\n<atem:parameter name=\"city\">Bern</atem:parameter>\n</atem:invoke>\n</atem:function_calls>",
    ),
    (
        &ToolFormat::MINICPM,
        "Look.\n<function name=\"weather\"><param name=\"city\">Paris</param><param name=\"days\">3</param><param name=\"opt\">{'x': [1, True, None]}</param></function>\n<function name=\"weather\"><param name=\"city\">Bern</param></function>",
    ),
    (
        &ToolFormat::DSML,
        "Look.\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Paris</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">3</｜DSML｜parameter>\n<｜DSML｜parameter name=\"opt\" string=\"false\">{\"x\": [1, true, null]}</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Bern</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
    ),
    (
        &ToolFormat::DSML_V4,
        "Look.\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Paris</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">3</｜DSML｜parameter>\n<｜DSML｜parameter name=\"opt\" string=\"false\">{\"x\": [1, true, null]}</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Bern</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
    ),
    (
        &ToolFormat::DEEPSEEK_V3,
        "Look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": \"Bern\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    (
        &ToolFormat::DEEPSEEK_V31,
        "Look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}<｜tool▁call▁end｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"Bern\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    (
        &ToolFormat::KIMI,
        "Look.<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}<|tool_call_end|><|tool_call_begin|>functions.weather:1<|tool_call_argument_begin|>{\"city\": \"Bern\"}<|tool_call_end|><|tool_calls_section_end|>",
    ),
    (
        &ToolFormat::KIMI_K3,
        "Look.<|open|>tools<|sep|><|open|>call tool=\"weather\" index=\"1\"<|sep|><|open|>argument key=\"city\" type=\"string\"<|sep|>Paris<|close|>argument<|sep|><|open|>argument key=\"days\" type=\"number\"<|sep|>3<|close|>argument<|sep|><|open|>argument key=\"opt\" type=\"object\"<|sep|>{\"x\": [1, true, null]}<|close|>argument<|sep|><|close|>call<|sep|><|open|>call tool=\"weather\" index=\"2\"<|sep|><|open|>argument key=\"city\" type=\"string\"<|sep|>Bern<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>",
    ),
    (
        &ToolFormat::SOLAR,
        "Look.<|tool_calls|><|tool_call:begin|>abcdefgh1<|tool_call:name|>weather<|tool_call:args|>{\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}<|tool_call:end|><|tool_call:begin|>abcdefgh2<|tool_call:name|>weather<|tool_call:args|>{\"city\": \"Bern\"}<|tool_call:end|>",
    ),
    (
        &ToolFormat::HARMONY,
        "Look.<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}<|call|><|start|>assistant to=functions.weather<|channel|>commentary json<|message|>{\"city\": \"Bern\"}<|call|>",
    ),
    (
        &ToolFormat::FUNCTIONARY_V31,
        "Look.<function=weather>{\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}</function><function=weather>{\"city\": \"Bern\"}</function>",
    ),
    (
        &ToolFormat::FUNCTIONARY_V32,
        "all\nLook.>>>weather\n{\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}>>>weather\n{\"city\": \"Bern\"}",
    ),
    (
        &ToolFormat::COMMAND_R7B,
        "Look.<|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"weather\", \"parameters\": {\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}},\n    {\"tool_call_id\": \"1\", \"tool_name\": \"weather\", \"parameters\": {\"city\": \"Bern\"}}\n]<|END_ACTION|>",
    ),
    (
        &ToolFormat::COMMAND_R,
        "Look.\nAction: ```json\n[\n    {\n        \"tool_name\": \"weather\",\n        \"parameters\": {\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}\n    },\n    {\n        \"tool_name\": \"weather\",\n        \"parameters\": {\"city\": \"Bern\"}\n    }\n]```",
    ),
    (
        &ToolFormat::GRANITE,
        "Look.<|tool_call|>[{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}}, {\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}]",
    ),
    (
        &ToolFormat::PHI4_MINI,
        "Look.<|tool_call|>[{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}}, {\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}]<|/tool_call|>",
    ),
    (
        &ToolFormat::NEMOTRON,
        "Look.<TOOLCALL>[{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}}, {\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}]</TOOLCALL>",
    ),
    (
        &ToolFormat::APRIEL,
        "Look.\n<tool_calls>[{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}}, {\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}]</tool_calls>",
    ),
    (
        &ToolFormat::MINIMAX_M1,
        "Look.\n<tool_calls>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}}\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_calls>",
    ),
    (
        &ToolFormat::FUNCTOOLS,
        "Look. functools[{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}}, {\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}]",
    ),
    (
        &ToolFormat::GIGACHAT,
        "Look.<|function_call|>{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}}<|function_call|>{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}",
    ),
    (
        &ToolFormat::GIGACHAT_ROLE,
        "Look.<|message_sep|>\n\nfunction call<|role_sep|>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}}<|message_sep|>\n\nfunction call<|role_sep|>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}",
    ),
    (
        &ToolFormat::APERTUS,
        "Look.<|tools_prefix|>[{\"weather\": {\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}}, {\"weather\": {\"city\": \"Bern\"}}]<|tools_suffix|>",
    ),
    (
        &ToolFormat::PYTHONIC,
        "[weather(city=\"Paris\", days=3, opt={'x': [1, True, None]}), weather(city='Bern')]",
    ),
    (
        &ToolFormat::LFM2,
        "Look.<|tool_call_start|>[weather(city='Paris', days=3, opt={\"x\": [1, true, null]}), weather(city='Bern')]<|tool_call_end|>",
    ),
    (
        &ToolFormat::SMOLLM3_PYTHON,
        "Look.<code>\nweather(city='Paris', days=3, opt={\"x\": [1, True, None]})\nweather(city='Bern')\n</code>",
    ),
    (
        &ToolFormat::GEMMA_CODE,
        "Look.\n```tool_code\nweather(city=\"Paris\", days=3, opt={\"x\": [1, True, None]})\nweather(city=\"Bern\")\n```",
    ),
    (
        &ToolFormat::GEMMA,
        "Look.<|tool_call>call:weather{city:<|\"|>Paris<|\"|>,days:3,opt:{x:[1,true,None]}}<tool_call|><|tool_call>call:weather{city:<|\"|>Bern<|\"|>}<tool_call|>",
    ),
    (
        &ToolFormat::LLAMA,
        "{\"name\": \"weather\", \"parameters\": {\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}}; {\"name\": \"weather\", \"parameters\": {\"city\": \"Bern\"}}",
    ),
    (
        &ToolFormat::GENERAL,
        "{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3, \"opt\": {\"x\": [1, true, null]}}}\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}",
    ),
];

#[test]
fn every_format_is_parsed() {
    let expected = [
        (
            "weather".to_owned(),
            json!({"city": "Paris", "days": 3, "opt": {"x": [1, true, null]}}),
        ),
        ("weather".to_owned(), json!({"city": "Bern"})),
    ];
    for (format, output) in TWO_CALLS {
        let (text, found) = calls(format, output);
        assert_eq!(found, expected, "{}: {output}", format.name);
        let before = if format.layout.unmarked.is_some() {
            ""
        } else {
            "Look."
        };
        assert_eq!(text.trim_end(), before, "{}: {output}", format.name);
        // Text after the calls.
        let (text, found) = calls(format, &format!("{output}\nDone."));
        assert_eq!(found.len(), 2, "{}: {output}", format.name);
        assert!(text.ends_with("\nDone."), "{}: {text}", format.name);
    }
    for format in ToolFormat::ALL {
        let has_sample = TWO_CALLS
            .iter()
            .any(|(sampled, _)| sampled.name == format.name);
        assert!(has_sample, "{}", format.name);
    }
}

/// A function that was not offered is text, in every format.
#[test]
fn other_functions_are_text() {
    for (format, output) in TWO_CALLS {
        let output = output.replace("weather", "destroy");
        let expected = match format.layout.text_name {
            Some(name) => output.strip_prefix(name).unwrap(),
            None => &output,
        };
        assert_eq!(
            calls(format, &output),
            (expected.to_owned(), Vec::new()),
            "{}",
            format.name
        );
    }
}

#[test]
fn functions_without_arguments_are_called() {
    for (format, output) in [
        (&ToolFormat::GLM, "<tool_call>f\n</tool_call>"),
        (&ToolFormat::GLM, "<tool_call>f</tool_call>"),
        (
            &ToolFormat::QWEN_XML,
            "<tool_call>\n<function=f>\n</function>\n</tool_call>",
        ),
        (
            &ToolFormat::MINIMAX,
            "<minimax:tool_call>\n<invoke name=\"f\">\n</invoke>\n</minimax:tool_call>",
        ),
        (&ToolFormat::PYTHONIC, "[f()]"),
        (&ToolFormat::GEMMA, "<|tool_call>call:f{}<tool_call|>"),
        (
            &ToolFormat::HARMONY,
            "<|channel|>commentary to=functions.f<|message|>{}",
        ),
    ] {
        let expected = (String::new(), vec![("f".to_owned(), json!({}))]);
        assert_eq!(calls(format, output), expected, "{output}");
    }
}

#[test]
fn strings_in_marks_stay_as_they_are() {
    let value = "\n 12 <b> </p \"x\"\\ \n";
    for (format, output) in [
        (
            &ToolFormat::QWEN_XML,
            format!(
                "<tool_call><function=weather><parameter=note>\n{value}\n</parameter></function></tool_call>"
            ),
        ),
        (
            &ToolFormat::GLM,
            format!(
                "<tool_call>weather<arg_key>note</arg_key><arg_value>{value}</arg_value></tool_call>"
            ),
        ),
    ] {
        let (_, calls) = calls(format, &output);
        assert_eq!(calls[0].1, json!({"note": value}), "{output}");
    }
    let numbers = "<tool_call>weather<arg_key>note</arg_key><arg_value>12</arg_value><arg_key>unknown</arg_key><arg_value>12</arg_value><arg_key>sure</arg_key><arg_value>True</arg_value></tool_call>";
    let (_, found) = calls(&ToolFormat::GLM, numbers);
    assert_eq!(
        found[0].1,
        json!({"note": "12", "unknown": 12, "sure": true})
    );
}

#[test]
fn calls_that_are_cut_off_keep_their_arguments() {
    for (format, output, expected) in [
        (
            &ToolFormat::QWEN_XML,
            "<tool_call><function=weather><parameter=city>\nParis\n</parameter><parameter=note>\na\"b",
            &[r#"weather {"city": "Paris", "note": "a\"b"#][..],
        ),
        (
            &ToolFormat::QWEN_XML,
            "<tool_call><function=weather><param",
            &["<tool_call><function=weather><param"],
        ),
        (
            &ToolFormat::QWEN_XML,
            "<tool_call><function=weather>oops</function>",
            &["<tool_call><function=weather>oops</function>"],
        ),
        (
            &ToolFormat::QWEN_XML,
            "<function=weather><parameter=city>x</parameter>oops",
            &[r#"weather {"city": "x"}"#, "end", "oops"],
        ),
        (
            &ToolFormat::PYTHONIC,
            "[weather(city='Pa",
            &["[weather(city='Pa"],
        ),
        (&ToolFormat::PYTHONIC, "[1, 2]", &["[1, 2]"]),
        (
            &ToolFormat::PYTHONIC,
            "[f(x)] [f(a=1)]",
            &["[f(x)] [f(a=1)]"],
        ),
        (
            &ToolFormat::HARMONY,
            "<|channel|>commentary to=functions.weather<|message|>{\"city",
            &[r#"weather {"city"#],
        ),
        (&ToolFormat::FUNCTIONARY_V32, "all\nHi >>> f", &["Hi >>> f"]),
        (&ToolFormat::FUNCTIONARY_V32, "alliance", &["alliance"]),
    ] {
        assert_eq!(read(format, output), expected, "{output}");
    }
}

#[test]
fn arguments_in_marks_are_valid_json() {
    let output =
        "<function=weather><parameter=city>a</parameter><parameter=city>b</parameter></function>";
    let (_, found) = calls(&ToolFormat::QWEN_XML, output);
    assert_eq!(found[0].1, json!({"city": "b"}));
    let _: &Value = &found[0].1;
}

#[test]
fn parses_llama() {
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
        assert_eq!(read(&ToolFormat::LLAMA, output), expected, "{output}");
    }
}

#[test]
fn parses_hermes() {
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
        assert_eq!(read(&ToolFormat::HERMES, output), expected, "{output}");
    }
}

#[test]
fn parses_mistral() {
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
        assert_eq!(read(&ToolFormat::MISTRAL, output), expected, "{output}");
        assert_eq!(
            read(&ToolFormat::MISTRAL_NAMED, output),
            expected,
            "{output}"
        );
    }
}

#[test]
fn arguments_are_returned_as_they_arrive() {
    let mut parser = ToolCallParser::new(&ToolFormat::HERMES, functions());
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
