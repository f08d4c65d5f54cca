use crate::format::ToolFormat;

/// Formats by texts that only their chat templates contain, more specific ones first.
const SIGNS: &[(&[&str], &ToolFormat)] = &[
    (&["[TOOL_CALLS]", "[ARGS]"], &ToolFormat::MISTRAL_NAMED),
    (&["[TOOL_CALLS]"], &ToolFormat::MISTRAL),
    (&["<|tool_call_start|>"], &ToolFormat::LFM2),
    (&["<|tool_list_start|>"], &ToolFormat::LFM2),
    (&["<|START_ACTION|>"], &ToolFormat::COMMAND_R7B),
    (&["Action:", "tool_name", "```json"], &ToolFormat::COMMAND_R),
    (&["<|tool_calls_section_begin|>"], &ToolFormat::KIMI),
    (&["open_tag('argument'"], &ToolFormat::KIMI_K3),
    (
        &["<｜tool▁calls▁begin｜>", "```json"],
        &ToolFormat::DEEPSEEK_V3,
    ),
    (&["<｜tool▁calls▁begin｜>"], &ToolFormat::DEEPSEEK_V31),
    (&["｜DSML｜", "function_calls"], &ToolFormat::DSML),
    (&["｜DSML｜"], &ToolFormat::DSML_V4),
    (&["<tool_calls{}>"], &ToolFormat::HUNYUAN),
    (&["<minimax:tool_call>"], &ToolFormat::MINIMAX),
    (&["<atem:invoke"], &ToolFormat::ATEM),
    (&["<|tool_call>call:"], &ToolFormat::GEMMA),
    (&["<seed:tool_call>"], &ToolFormat::SEED),
    (&["<|tool_call:begin|>"], &ToolFormat::SOLAR),
    (&["<|tools_prefix|>"], &ToolFormat::APERTUS),
    (&["<TOOLCALL>"], &ToolFormat::NEMOTRON),
    (&["<|channel|>", "functions."], &ToolFormat::HARMONY),
    (&[">>>all"], &ToolFormat::FUNCTIONARY_V32),
    (&["<tool_call>", "<function="], &ToolFormat::QWEN_XML),
    (&["<tool_call>", "<arg_key>"], &ToolFormat::GLM),
    (&["<tool_calls>[", "tool_calls"], &ToolFormat::APRIEL),
    (&["<tool_calls>"], &ToolFormat::MINIMAX_M1),
    (&["<tool_call>"], &ToolFormat::HERMES),
    (&["xml_tools"], &ToolFormat::HERMES),
    (&["python_tools"], &ToolFormat::SMOLLM3_PYTHON),
    (&["<function name=", "<param name="], &ToolFormat::MINICPM),
    (&["<function="], &ToolFormat::FUNCTIONARY_V31),
    (&["<|/tool_call|>"], &ToolFormat::PHI4_MINI),
    (&["<|tool_call|>"], &ToolFormat::GRANITE),
    (&["functools["], &ToolFormat::FUNCTOOLS),
    (&["<|function_call|>"], &ToolFormat::GIGACHAT),
    (&["function call", "role_sep"], &ToolFormat::GIGACHAT_ROLE),
    (&["<|python_start|>"], &ToolFormat::PYTHONIC),
    (&["[func_name1("], &ToolFormat::PYTHONIC),
    (&["tool_code"], &ToolFormat::GEMMA_CODE),
    (&["<|python_tag|>"], &ToolFormat::LLAMA),
    (
        &["<|start_header_id|>", "\"parameters\":"],
        &ToolFormat::LLAMA,
    ),
    (&["List of tools: ["], &ToolFormat::LFM2),
];

/// Texts of templates whose format is not known although they have signs of one.
const UNKNOWN: &[&str] = &["]<]minimax[>["];

impl ToolFormat {
    /// Detects the format in which a chat template writes or requests tool calls; `None` if it is
    /// unknown or the template has no tool calls.
    pub fn detect(template: &str) -> Option<&'static Self> {
        if UNKNOWN.iter().any(|sign| template.contains(sign)) {
            return None;
        }
        let has = |text: &&str| template.contains(*text);
        let found = SIGNS.iter().find(|(signs, _)| signs.iter().all(has));
        found.map(|(_, format)| *format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_format_from_template() {
        for (source, format) in [
            // Llama 3.1, and 3.2, which dropped the tag.
            (
                r#"{{- "<|start_header_id|>assistant<|end_header_id|>\n\n" }}{{- "<|python_tag|>" + c.name + ".call(" }}"#,
                Some(ToolFormat::LLAMA.name),
            ),
            (
                r#"{{- '<|start_header_id|>assistant<|end_header_id|>' }}{{- '{"name": "' + c.name + '", ' }}{{- '"parameters": ' }}"#,
                Some(ToolFormat::LLAMA.name),
            ),
            // Qwen 2.5.
            (
                r#"{{- '\n<tool_call>\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}"#,
                Some(ToolFormat::HERMES.name),
            ),
            // Mistral v3 and v13.
            (
                r#"{{- "[TOOL_CALLS] [" }}{{- c.function | tojson }}"#,
                Some(ToolFormat::MISTRAL.name),
            ),
            (
                r"{{- '[TOOL_CALLS]' + c.function.name + '[ARGS]' + a }}",
                Some(ToolFormat::MISTRAL_NAMED.name),
            ),
            // Marks of Hermes without JSON between them.
            (
                r"<tool_call>\n<function={{ c.name }}>",
                Some(ToolFormat::QWEN_XML.name),
            ),
            (
                r"<tool_call>{{ c.name }}\n<arg_key>",
                Some(ToolFormat::GLM.name),
            ),
            // gpt-oss writes the recipient piece by piece.
            (
                r#"{{- "<|start|>assistant to=" }}{{- "functions." + c.name + "<|channel|>commentary " }}"#,
                Some(ToolFormat::HARMONY.name),
            ),
            (
                r"{{ '<|tool_call>call:' ~ name ~ '{' }}",
                Some(ToolFormat::GEMMA.name),
            ),
            (
                r"<|tool_call|>[{{ c | tojson }}]<|/tool_call|>",
                Some(ToolFormat::PHI4_MINI.name),
            ),
            // MiniMax M3 nests tags instead of writing values.
            (r"]<]minimax[>[<tool_call>", None),
            // Llama 3 and ChatML without tools.
            ("{{ '<|start_header_id|>' + m['role'] }}", None),
            ("{{ '<|im_start|>' + m['role'] }}", None),
            ("", None),
        ] {
            let found = ToolFormat::detect(source).map(|format| format.name);
            assert_eq!(found, format, "{source}");
        }
    }
}
