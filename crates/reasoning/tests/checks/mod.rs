//! What holds for every output of a model. Also used by the fuzz targets.

use reasoning::{Format, Phase, Start};

/// Fragments of outputs.
pub const WORDS: &[&str] = &[
    "<think>",
    "</think>",
    "<response>",
    "</response>",
    "[THINK]",
    "[/THINK]",
    "<|channel>thought",
    "<channel|>",
    "Here are my reasoning steps:",
    "[BEGIN FINAL RESPONSE]",
    "[END FINAL RESPONSE]",
    "<|start|>",
    "assistant",
    "<|channel|>",
    "analysis",
    "final",
    "commentary",
    " to=",
    "functions.f",
    "<|constrain|>",
    "<|message|>",
    "<|end|>",
    "\n",
    "é",
];

/// Templates with the marks of all kinds of formats.
pub const TEMPLATES: &[&str] = &[
    "<think></think>",
    "<think></think><response></response>",
    "[THINK][/THINK]",
    "<|channel>thought<channel|>",
    "[BEGIN FINAL RESPONSE]",
    "<|channel|>analysis<|message|>",
];

/// Reasoning and answer of an output that arrives in these pieces.
pub fn split(format: &Format, start: Start, pieces: &[&str]) -> (String, String) {
    let mut splitter = format.splitter(start);
    let (mut reasoning, mut answer) = (String::new(), String::new());
    for piece in pieces {
        let part = splitter.push(piece, &mut reasoning);
        answer.push_str(&part);
        if splitter.phase() == Phase::Start {
            assert!(reasoning.is_empty() && answer.is_empty());
        }
    }
    let rest = splitter.finish(&mut reasoning);
    answer.push_str(&rest);
    (reasoning, answer)
}

/// Reasoning and answer of an output that was cut off.
pub fn split_cut(format: &Format, text: &str) -> (String, String) {
    let mut splitter = format.splitter(Start::Undecided);
    let mut reasoning = String::new();
    let mut answer = splitter.push(text, &mut reasoning).into_owned();
    answer.push_str(&splitter.cut_off(&mut reasoning));
    (reasoning, answer)
}

/// Splits the text as a whole, by character and in two pieces.
pub fn splitter(text: &str) {
    for template in TEMPLATES {
        let format = Format::detect(template, |_| false).expect("a known template");
        for start in [Start::Undecided, Start::Reasoning, Start::Answer] {
            let whole = split(&format, start, &[text]);
            let characters: Vec<&str> = text.split_inclusive(|_| true).collect();
            assert_eq!(
                split(&format, start, &characters),
                whole,
                "{template} {start:?}"
            );
            let (left, right) = text.split_at(text.floor_char_boundary(text.len() / 2));
            assert_eq!(
                split(&format, start, &[left, right]),
                whole,
                "{template} {start:?}"
            );
            nothing_is_lost(text, &whole);
            split_cut(&format, text);
        }
    }
}

/// Every character of reasoning and answer comes from the text, in order, and what is missing is
/// whitespace or part of a mark. The separator between two parts of an answer is whitespace too.
fn nothing_is_lost(text: &str, (reasoning, answer): &(String, String)) {
    let visible = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count();
    let parts = visible(reasoning) + visible(answer);
    assert!(parts <= visible(text), "{text:?}: {reasoning:?} {answer:?}");
    let has_marks = WORDS
        .iter()
        .filter(|word| word.contains(['<', '[', ':', '=']))
        .any(|mark| text.contains(mark));
    let cut_off = text.trim_end().ends_with(|c: char| !c.is_whitespace());
    if !has_marks && cut_off {
        assert_eq!(parts, visible(text), "{text:?}: {reasoning:?} {answer:?}");
    }
}
