//! Reasoning and answer of outputs in all formats.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod checks;

use checks::{WORDS, split, split_cut};
use proptest::{collection::vec, prelude::*, sample::select};
use reasoning::{Format, Phase, Start};

fn format(template: &str) -> Format {
    Format::detect(template, |_| false).unwrap()
}

fn parts(template: &str, start: Start, text: &str) -> (String, String) {
    split(&format(template), start, &[text])
}

#[test]
fn marks_separate_reasoning_and_answer() {
    const THINK: &str = "<think></think>";
    for (start, text, reasoning, answer) in [
        (
            Start::Undecided,
            "<think>\na b\n</think>\n\nc d",
            "a b",
            "c d",
        ),
        (Start::Undecided, "\n<think>a</think>b", "a", "b"),
        (Start::Reasoning, "a\n</think>\n\nb", "a", "b"),
        // A model that repeats the mark of the prompt.
        (Start::Reasoning, "<think>\na</think>b", "a", "b"),
        (Start::Undecided, "no reasoning", "", "no reasoning"),
        (Start::Undecided, "  indented", "", "  indented"),
        (Start::Undecided, "</think>\nb", "", "b"),
        (Start::Undecided, "<think>\n\n</think>\n\nb", "", "b"),
        // Only the first reasoning counts; an answer may quote the marks.
        (
            Start::Undecided,
            "<think>a</think>b <think>c</think>",
            "a",
            "b <think>c</think>",
        ),
        (Start::Undecided, "about <think>", "", "about <think>"),
        (Start::Answer, "<think>a</think>", "", "<think>a</think>"),
        // Outputs that the model ended in a mark.
        (Start::Undecided, "<think>\na </thi", "a </thi", ""),
        (Start::Reasoning, "a\nb", "a\nb", ""),
        (Start::Undecided, "<thi", "", "<thi"),
        (Start::Undecided, "<think>", "", ""),
        (Start::Reasoning, "\n", "", ""),
        // Whitespace inside reasoning and answer is kept.
        (
            Start::Undecided,
            "<think>a\n\n b</think> c\n d ",
            "a\n\n b",
            "c\n d ",
        ),
    ] {
        assert_eq!(
            parts(THINK, start, text),
            (reasoning.to_owned(), answer.to_owned()),
            "{start:?} {text:?}"
        );
    }
}

#[test]
fn other_families_have_other_marks() {
    for (template, text, reasoning, answer) in [
        ("[THINK][/THINK]", "[THINK]a[/THINK]b", "a", "b"),
        ("<thinking></thinking>", "<thinking>a</thinking>b", "a", "b"),
        (
            "Here is my response:",
            "Here is my thought process: a\nHere is my response: b",
            "a",
            "b",
        ),
        (
            "<think></think><response></response>",
            "<think>a</think>\n<response>b</response>\n",
            "a",
            "b\n",
        ),
        (
            "<think></think><response></response>",
            "<think>a</think>b",
            "a",
            "b",
        ),
        (
            "[BEGIN FINAL RESPONSE]",
            "Here are my reasoning steps:\na\n[BEGIN FINAL RESPONSE]\nb\n[END FINAL RESPONSE]",
            "a",
            "b\n",
        ),
        // Gemma reasons again between calls.
        (
            "<|channel>thought<channel|>",
            "<|channel>thought\na<channel|>b<|channel>thought\nc<channel|>d",
            "ac",
            "bd",
        ),
        ("◁/think▷", "◁think▷a◁/think▷b", "a", "b"),
    ] {
        assert_eq!(
            parts(template, Start::Undecided, text),
            (reasoning.to_owned(), answer.to_owned()),
            "{text:?}"
        );
    }
}

#[test]
fn channels_separate_reasoning_and_answer() {
    const HARMONY: &str = "<|channel|>analysis<|message|>";
    const CALL: &str = " to=functions.f <|constrain|>json<|message|>{}";
    for (start, text, reasoning, answer) in [
        (
            Start::Undecided,
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b",
            "a",
            "b",
        ),
        (Start::Undecided, "<|channel|>final<|message|>b", "", "b"),
        (Start::Undecided, "plain text", "", "plain text"),
        (
            Start::Reasoning,
            "a<|end|><|start|>assistant<|channel|>final<|message|>b",
            "a",
            "b",
        ),
        (Start::Answer, "b < c", "", "b < c"),
        // A preamble is text; the final answer is a part of its own.
        (
            Start::Undecided,
            "<|channel|>commentary<|message|>p<|end|><|start|>assistant<|channel|>final<|message|>b",
            "",
            "p\n\nb",
        ),
        // A call is passed on with its header.
        (
            Start::Undecided,
            &format!(
                "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary{CALL}"
            ),
            "a",
            &format!("<|start|>assistant<|channel|>commentary{CALL}"),
        ),
        (
            Start::Undecided,
            " to=functions.f<|channel|>commentary json<|message|>{}",
            "",
            " to=functions.f<|channel|>commentary json<|message|>{}",
        ),
        // Outputs that the model ended in a mark.
        (Start::Undecided, "<|channel|>analysis<|mess", "", ""),
        (
            Start::Undecided,
            "<|channel|>analysis<|message|>a<|en",
            "a<|en",
            "",
        ),
        (
            Start::Undecided,
            "<|channel|>final<|message|>b<|",
            "",
            "b<|",
        ),
    ] {
        assert_eq!(
            parts(HARMONY, start, text),
            (reasoning.to_owned(), answer.to_owned()),
            "{start:?} {text:?}"
        );
    }
    let endless = format!("<|channel|>{}", "x".repeat(300));
    assert_eq!(parts(HARMONY, Start::Undecided, &endless).1, endless);
}

#[test]
fn the_start_of_a_mark_is_dropped_where_an_output_is_cut_off() {
    for (template, text, reasoning, answer) in [
        ("<think></think>", "\n<thi", "", ""),
        ("<think></think>", "\n", "", "\n"),
        ("<think></think>", "<think>\na\n</thi", "a", ""),
        ("<think></think>", "<think>\na\n", "a\n", ""),
        ("<think></think>", "<think>a</think>b </thi", "a", "b </thi"),
        (
            "<think></think><response></response>",
            "<think>a</think>\n<resp",
            "a",
            "",
        ),
        (
            "<think></think><response></response>",
            "<think>a</think><response>b</resp",
            "a",
            "b",
        ),
        (
            "<|channel>thought<channel|>",
            "<|channel>thought\na<channel|>b<|chan",
            "a",
            "b",
        ),
        ("<|channel|>analysis", "<|chan", "", ""),
        (
            "<|channel|>analysis",
            "<|channel|>analysis<|message|>a<|en",
            "a",
            "",
        ),
        (
            "<|channel|>analysis",
            "<|channel|>final<|message|>b<|",
            "",
            "b",
        ),
        (
            "<|channel|>analysis",
            "<|channel|>analysis<|message|>a<|end|><|sta",
            "a",
            "",
        ),
        ("<|channel|>analysis", "<|channel|>final<|mess", "", ""),
        // The header of a call is for the parser of calls.
        (
            "<|channel|>analysis",
            " to=functions.f <|cons",
            "",
            " to=functions.f <|cons",
        ),
    ] {
        let parts = split_cut(&format(template), text);
        assert_eq!(parts, (reasoning.to_owned(), answer.to_owned()), "{text:?}");
    }
}

/// Reasoning and answer of a text, wherever it is cut off, are the starts of those of the whole.
#[test]
fn parts_of_a_text_that_is_cut_off_are_starts() {
    for (template, text) in [
        ("<think></think>", "\n<think>\na b\n</think>\n\nc d"),
        ("[THINK][/THINK]", "[THINK]a b[/THINK]c d"),
        (
            "<think></think><response></response>",
            "<think>a</think>\n<response>b</response>\n",
        ),
        (
            "[BEGIN FINAL RESPONSE]",
            "Here are my reasoning steps:\na\n[BEGIN FINAL RESPONSE]\nb\n[END FINAL RESPONSE]",
        ),
        (
            "<|channel>thought<channel|>",
            "<|channel>thought\na<channel|>b<|channel>thought\nc<channel|>d",
        ),
        ("◁/think▷", "◁think▷a◁/think▷b"),
        (
            "<|channel|>analysis",
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>p<|end|><|start|>assistant<|channel|>final<|message|>b",
        ),
    ] {
        let format = format(template);
        let whole = split(&format, Start::Undecided, &[text]);
        for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            let (reasoning, answer) = split_cut(&format, &text[..cut]);
            let context = format!("{:?}: {reasoning:?} {answer:?}", &text[..cut]);
            assert!(whole.0.starts_with(reasoning.trim_end()), "{context}");
            assert!(whole.1.starts_with(answer.trim_end()), "{context}");
        }
    }
}

#[test]
fn phases_follow_the_marks() {
    let mut splitter = format("<think></think>").splitter(Start::Undecided);
    let mut reasoning = String::new();
    for (piece, phase) in [
        ("\n", Phase::Start),
        ("<thi", Phase::Start),
        ("nk>", Phase::Reasoning),
        ("a</thi", Phase::Reasoning),
        ("nk>", Phase::Answer),
        ("\n\n", Phase::Answer),
        ("b", Phase::Answer),
    ] {
        splitter.push(piece, &mut reasoning);
        assert_eq!(splitter.phase(), phase, "{piece:?}");
    }
    let mut splitter = format("<|channel|>analysis").splitter(Start::Undecided);
    for (piece, phase) in [
        ("<|channel|>", Phase::Between),
        ("analysis<|message|>", Phase::Reasoning),
        ("a<|end|>", Phase::Between),
        (
            "<|start|>assistant<|channel|>final<|message|>",
            Phase::Answer,
        ),
    ] {
        splitter.push(piece, &mut reasoning);
        assert_eq!(splitter.phase(), phase, "{piece:?}");
    }
}

#[test]
fn an_answer_is_not_copied() {
    for template in ["<think></think>", "<|channel|>analysis<|message|>"] {
        let mut splitter = format(template).splitter(Start::Undecided);
        let mut reasoning = String::new();
        splitter.push("an answer", &mut reasoning);
        let part = splitter.push(" goes on", &mut reasoning);
        assert!(
            matches!(part, std::borrow::Cow::Borrowed(" goes on")),
            "{template}"
        );
    }
}

proptest! {
    /// The boundaries of the tokens never matter, and nothing but marks and whitespace is lost.
    #[test]
    fn token_boundaries_do_not_affect_the_parts(
        words in vec(prop_oneof![select(WORDS), select(&["a", " ", "<", "</", "{\"x\": 1}"][..])], 0..12),
        cuts in vec(0..200_usize, 0..6),
    ) {
        let text = words.concat();
        checks::splitter(&text);
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|c| text.is_char_boundary(*c)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&str> = cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect();
        for template in checks::TEMPLATES {
            let format = format(template);
            prop_assert_eq!(
                split(&format, Start::Undecided, &pieces),
                split(&format, Start::Undecided, &[&text]),
                "{}", template
            );
        }
    }
}
