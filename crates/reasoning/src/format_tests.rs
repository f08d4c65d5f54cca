use super::*;

fn detect(template: &str) -> Option<Format> {
    Format::detect(template, |_| false)
}

/// The lines of chat templates that have the marks, with the end of a prompt and where the output
/// begins after it.
#[test]
fn formats_are_detected_from_templates() {
    for (template, opening, prompt_end, start) in [
        // Qwen 3.
        (
            "{{- '<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}",
            "<think>",
            "<|im_start|>assistant\n",
            Start::Undecided,
        ),
        // Qwen 3 without thinking.
        (
            "{{- '<think>\\n\\n</think>\\n\\n' }}",
            "<think>",
            "<|im_start|>assistant\n<think>\n\n</think>\n\n",
            Start::Answer,
        ),
        // DeepSeek R1, which opens the reasoning itself.
        (
            "{% set content = content.split('</think>')[-1] %}{{ '<｜Assistant｜><think>\\n' }}",
            "<think>",
            "<｜Assistant｜><think>\n",
            Start::Reasoning,
        ),
        // GLM 4.7 without thinking.
        (
            "{{ '</think>' if enable_thinking is false else '<think>' }}",
            "<think>",
            "<|assistant|></think>",
            Start::Answer,
        ),
        // Granite 3.3.
        (
            "Write your thoughts between <think></think> and your response between <response></response>",
            "<think>",
            "<|end_of_role|>",
            Start::Undecided,
        ),
        // Granite 3.2.
        (
            "Write 'Here is my thought process:' and 'Here is my response:'",
            "Here is my thought process:",
            "<|end_of_role|>",
            Start::Undecided,
        ),
        // Apriel 1.6.
        (
            "{{ '<|begin_assistant|>\\nHere are my reasoning steps:\\n' }}[BEGIN FINAL RESPONSE]",
            "Here are my reasoning steps:",
            "<|begin_assistant|>\nHere are my reasoning steps:\n",
            Start::Reasoning,
        ),
        // Magistral.
        (
            "[THINK]{{ t }}[/THINK]",
            "[THINK]",
            "[/INST]",
            Start::Undecided,
        ),
        // Command A Reasoning.
        (
            "<|START_THINKING|>{{ t }}<|END_THINKING|>",
            "<|START_THINKING|>",
            "<|CHATBOT_TOKEN|><|START_THINKING|>",
            Start::Reasoning,
        ),
        // Gemma 4 without thinking.
        (
            "{{- '<|channel>thought\\n<channel|>' -}}",
            "<|channel>thought",
            "<|turn>model\n<|channel>thought\n<channel|>",
            Start::Answer,
        ),
        (
            "<seed:think>{{ t }}</seed:think>",
            "<seed:think>",
            "<seed:bos>assistant\n",
            Start::Undecided,
        ),
        (
            "◁think▷{{ t }}◁/think▷",
            "◁think▷",
            "◁think▷",
            Start::Reasoning,
        ),
        (
            "<thought>\n</thought>",
            "<thought>",
            "[|assistant|]<thought>\n",
            Start::Reasoning,
        ),
        (
            "<thinking></thinking>",
            "<thinking>",
            "assistant",
            Start::Undecided,
        ),
        (
            "{{ '</mm:think>' }}",
            "<mm:think>",
            "ai\n<mm:think>",
            Start::Reasoning,
        ),
        // gpt-oss.
        (
            "<|start|>assistant<|channel|>analysis<|message|>",
            "<|channel|>",
            "<|start|>assistant",
            Start::Undecided,
        ),
        (
            "<|start|>assistant<|channel|>analysis<|message|>",
            "<|channel|>",
            "<|start|>assistant<|channel|>analysis<|message|>",
            Start::Reasoning,
        ),
        (
            "<|start|>assistant<|channel|>analysis<|message|>",
            "<|channel|>",
            "<|start|>assistant<|channel|>final<|message|>",
            Start::Answer,
        ),
    ] {
        let format = detect(template).unwrap_or_else(|| panic!("{template}"));
        assert_eq!(format.opening(), opening, "{template}");
        assert_eq!(format.start(prompt_end), start, "{template}");
        assert!(format.in_template());
    }
}

#[test]
fn templates_without_marks_have_no_format() {
    for template in [
        "",
        "{{ '<|im_start|>' + message.role }}",
        "{{ '<|start_header_id|>assistant<|end_header_id|>' }}",
        "Think before you answer: <think>",
    ] {
        assert_eq!(detect(template), None, "{template}");
    }
}

#[test]
fn a_vocabulary_with_both_marks_is_enough_to_split() {
    let has_token = |token: &str| ["<think>", "</think>"].contains(&token);
    let format = Format::detect("{{ messages }}", has_token).unwrap();
    assert_eq!(format.opening(), "<think>");
    assert!(!format.in_template());
    assert_eq!(Format::detect("", |token| token == "<think>"), None);
}
