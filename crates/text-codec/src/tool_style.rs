/// Syntax in which a model writes tool calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolStyle {
    /// `{"name": …, "parameters": …}` as the entire output or after `<|python_tag|>`: Llama 3.1
    /// and later.
    Llama,
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`: Hermes 2 Pro and later, Qwen 2.5
    /// and 3.
    Hermes,
    /// `[TOOL_CALLS]`, then a list of objects, or a name and arguments: Mistral.
    Mistral,
}

impl ToolStyle {
    /// Detects the style in which a chat template writes or requests tool calls; `None` if it
    /// is unknown or the template has no tool calls.
    pub(crate) fn detect(source: &str) -> Option<Self> {
        let has = |text: &str| source.contains(text);
        if has("[TOOL_CALLS]") {
            Some(Self::Mistral)
        } else if has("<tool_call>") {
            // Qwen3-Coder and GLM 4.5 put something other than JSON between these markers.
            (!has("<function=") && !has("<arg_key>")).then_some(Self::Hermes)
        } else if has("<|python_tag|>") || (has("<|start_header_id|>") && has("\"parameters\":")) {
            Some(Self::Llama)
        } else {
            None
        }
    }

    /// Texts that mark tool calls; in some vocabularies they are special tokens.
    pub const fn markers(self) -> &'static [&'static str] {
        match self {
            Self::Llama => &["<|python_tag|>"],
            Self::Hermes => &["<tool_call>", "</tool_call>"],
            Self::Mistral => &["[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_style_from_template() {
        for (source, style) in [
            // Llama 3.1, and 3.2, which dropped the tag.
            (
                r#"{{- "<|start_header_id|>assistant<|end_header_id|>\n\n" }}{{- "<|python_tag|>" + c.name + ".call(" }}"#,
                Some(ToolStyle::Llama),
            ),
            (
                r#"{{- '<|start_header_id|>assistant<|end_header_id|>' }}{{- '{"name": "' + c.name + '", ' }}{{- '"parameters": ' }}"#,
                Some(ToolStyle::Llama),
            ),
            // Qwen 2.5.
            (
                r#"{{- '\n<tool_call>\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}"#,
                Some(ToolStyle::Hermes),
            ),
            // Mistral v3 and v13.
            (
                r#"{{- "[TOOL_CALLS] [" }}{{- c.function | tojson }}"#,
                Some(ToolStyle::Mistral),
            ),
            (
                r"{{- '[TOOL_CALLS]' + c.function.name + '[ARGS]' + a }}",
                Some(ToolStyle::Mistral),
            ),
            // Qwen3-Coder and GLM: Hermes markers without JSON.
            (r"<tool_call>\n<function={{ c.name }}>", None),
            (r"<tool_call>{{ c.name }}\n<arg_key>", None),
            // Llama 3 and ChatML without tools.
            ("{{ '<|start_header_id|>' + m['role'] }}", None),
            ("{{ '<|im_start|>' + m['role'] }}", None),
            ("", None),
        ] {
            assert_eq!(ToolStyle::detect(source), style, "{source}");
        }
    }
}
