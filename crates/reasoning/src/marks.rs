use std::{borrow::Cow, mem};

use crate::phase::{Phase, Start, partial_mark};

/// Models that write their reasoning between two marks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Family {
    /// Begins reasoning.
    pub open: &'static str,
    /// Ends reasoning.
    pub close: &'static str,
    /// Marks around the answer.
    answer: Option<(&'static str, &'static str)>,
    /// The model may reason again after a part of its answer. Only for marks that are special
    /// tokens, which no answer quotes.
    repeats: bool,
    /// Tokens of the marks, which may be special.
    pub tokens: &'static [&'static str],
}

const fn family(
    open: &'static str,
    close: &'static str,
    tokens: &'static [&'static str],
) -> Family {
    Family {
        open,
        close,
        answer: None,
        repeats: false,
        tokens,
    }
}

/// The families in order of detection.
pub(crate) const FAMILIES: [Family; 12] = [
    // Gemma 4.
    Family {
        repeats: true,
        ..family(
            "<|channel>thought",
            "<channel|>",
            &["<|channel>", "<channel|>"],
        )
    },
    // Command A Reasoning, Command R7B. The marks around the answer are special tokens.
    family(
        "<|START_THINKING|>",
        "<|END_THINKING|>",
        &["<|START_THINKING|>", "<|END_THINKING|>"],
    ),
    // Magistral, Ministral 3 Reasoning.
    family("[THINK]", "[/THINK]", &["[THINK]", "[/THINK]"]),
    // Seed-OSS.
    family(
        "<seed:think>",
        "</seed:think>",
        &["<seed:think>", "</seed:think>"],
    ),
    // MiniMax M3.
    family("<mm:think>", "</mm:think>", &["<mm:think>", "</mm:think>"]),
    // Kimi-VL Thinking.
    family("◁think▷", "◁/think▷", &["◁think▷", "◁/think▷"]),
    // Granite 3.2.
    family("Here is my thought process:", "Here is my response:", &[]),
    // Apriel 1.5 and 1.6.
    Family {
        answer: Some(("[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]")),
        ..family(
            "Here are my reasoning steps:",
            "[BEGIN FINAL RESPONSE]",
            &["[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]"],
        )
    },
    // Granite 3.3.
    Family {
        answer: Some(("<response>", "</response>")),
        ..family("<think>", "</think>", &["<think>", "</think>"])
    },
    // DeepSeek R1 and V3.1, Qwen 3, QwQ, SmolLM 3, GLM 4.5, MiniMax M2, Nemotron, Kimi K2
    // Thinking, EXAONE 4, and most others.
    family("<think>", "</think>", &["<think>", "</think>"]),
    family("<thinking>", "</thinking>", &["<thinking>", "</thinking>"]),
    // EXAONE Deep.
    family("<thought>", "</thought>", &["<thought>", "</thought>"]),
];

impl Family {
    /// Whether a chat template has the marks. Some templates only remove earlier reasoning, up to
    /// the closing mark.
    pub fn is_in(&self, template: &str) -> bool {
        let has_answer_marks = self
            .answer
            .is_none_or(|(begin, _)| template.contains(begin));
        template.contains(self.close) && has_answer_marks
    }

    fn close_begins_answer(&self) -> bool {
        self.answer.is_some_and(|(begin, _)| begin == self.close)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first mark.
    Start,
    /// After a prompt that opened the reasoning: the model may repeat the opening mark.
    Opened,
    /// After the opening mark, where whitespace is dropped.
    BeforeReasoning,
    Reasoning,
    /// After the closing mark, where whitespace is dropped.
    BeforeAnswer,
    Answer,
}

/// Splits an output at the marks of a family.
#[derive(Debug, Clone)]
pub(crate) struct MarkSplitter {
    family: &'static Family,
    state: State,
    /// Text that may be the beginning of a mark.
    held: String,
    /// Whitespace before `held`, which is dropped if a mark follows.
    gap: String,
    /// The mark that ends the answer is expected.
    wrapped: bool,
}

impl MarkSplitter {
    pub fn new(family: &'static Family, start: Start) -> Self {
        Self {
            family,
            state: match start {
                Start::Undecided => State::Start,
                Start::Reasoning => State::Opened,
                Start::Answer => State::Answer,
            },
            held: String::new(),
            gap: String::new(),
            wrapped: start == Start::Answer && family.close_begins_answer(),
        }
    }

    pub fn phase(&self) -> Phase {
        match self.state {
            State::Start => Phase::Start,
            State::Opened | State::BeforeReasoning | State::Reasoning => Phase::Reasoning,
            State::BeforeAnswer | State::Answer => Phase::Answer,
        }
    }

    pub fn is_transparent(&self) -> bool {
        self.state == State::Answer && self.held.is_empty() && self.answer_mark().is_none()
    }

    /// The mark that ends this part of the answer.
    fn answer_mark(&self) -> Option<&'static str> {
        let end = self
            .family
            .answer
            .filter(|_| self.wrapped)
            .map(|(_, end)| end);
        end.or(self.family.repeats.then_some(self.family.open))
    }

    pub fn push<'a>(&mut self, text: &'a str, reasoning: &mut String) -> Cow<'a, str> {
        if self.is_transparent() {
            return Cow::Borrowed(text);
        }
        self.held.push_str(text);
        let mut answer = String::new();
        while self.step(reasoning, &mut answer) {}
        Cow::Owned(answer)
    }

    pub fn finish(&mut self, reasoning: &mut String) -> String {
        let mut answer = String::new();
        let out = match self.state {
            State::Opened | State::BeforeReasoning | State::Reasoning => reasoning,
            State::Start | State::BeforeAnswer | State::Answer => &mut answer,
        };
        out.push_str(&mem::take(&mut self.gap));
        out.push_str(&mem::take(&mut self.held));
        answer
    }

    /// Whitespace stays if no mark has begun after it.
    pub fn cut_off(&mut self, reasoning: &mut String) -> String {
        if !self.held.is_empty() {
            self.held.clear();
            self.gap.clear();
        }
        self.finish(reasoning)
    }

    /// Processes the held text up to the next change of state. Returns `false` if more text is
    /// needed.
    fn step(&mut self, reasoning: &mut String, answer: &mut String) -> bool {
        match self.state {
            State::Start => self.before(State::Answer, true),
            State::Opened => self.before(State::Reasoning, false),
            State::BeforeReasoning => {
                self.drop_whitespace();
                self.begins(State::Reasoning)
            }
            State::Reasoning => self.reasoning(reasoning),
            State::BeforeAnswer => self.before_answer(),
            State::Answer => self.answer(answer),
        }
    }

    /// Looks for a mark at the start of the output; without one, it is `otherwise`. Whitespace
    /// before other text is kept if `keep_whitespace` is set.
    fn before(&mut self, otherwise: State, keep_whitespace: bool) -> bool {
        let Family { open, close, .. } = self.family;
        let start = self.held.len() - self.held.trim_start().len();
        if keep_whitespace {
            self.gap.push_str(&self.held[..start]);
        }
        self.held.drain(..start);
        for (mark, next) in [(open, State::BeforeReasoning), (close, State::BeforeAnswer)] {
            if self.held.starts_with(mark) {
                self.held.drain(..mark.len());
                self.gap.clear();
                self.wrapped = next == State::BeforeAnswer && self.family.close_begins_answer();
                self.state = next;
                return true;
            }
        }
        if open.starts_with(&self.held) || close.starts_with(&self.held) {
            return false;
        }
        self.held.insert_str(0, &self.gap);
        self.gap.clear();
        self.state = otherwise;
        true
    }

    /// Continues with `state` once there is text.
    fn begins(&mut self, state: State) -> bool {
        if self.held.is_empty() {
            return false;
        }
        self.state = state;
        true
    }

    fn drop_whitespace(&mut self) {
        let start = self.held.len() - self.held.trim_start().len();
        self.held.drain(..start);
    }

    fn reasoning(&mut self, out: &mut String) -> bool {
        let close = self.family.close;
        let (end, found) = match self.held.find(close) {
            Some(at) => (at, true),
            None => (self.held.len() - partial_mark(&self.held, close), false),
        };
        let text = self.held[..end].trim_end();
        if !text.is_empty() {
            out.push_str(&self.gap);
            out.push_str(text);
            self.gap.clear();
        }
        self.gap.push_str(&self.held[text.len()..end]);
        if found {
            self.gap.clear();
            self.held.drain(..end + close.len());
            self.wrapped = self.family.close_begins_answer();
            self.state = State::BeforeAnswer;
        } else {
            self.held.drain(..end);
        }
        found
    }

    fn before_answer(&mut self) -> bool {
        self.drop_whitespace();
        if let Some((begin, _)) = self.family.answer.filter(|_| !self.wrapped) {
            if self.held.starts_with(begin) {
                self.held.drain(..begin.len());
                self.wrapped = true;
                return true;
            }
            if begin.starts_with(&self.held) {
                return false;
            }
        }
        self.begins(State::Answer)
    }

    fn answer(&mut self, out: &mut String) -> bool {
        let Some(mark) = self.answer_mark() else {
            out.push_str(&mem::take(&mut self.held));
            return false;
        };
        let Some(at) = self.held.find(mark) else {
            let end = self.held.len() - partial_mark(&self.held, mark);
            out.extend(self.held.drain(..end));
            return false;
        };
        out.push_str(&self.held[..at]);
        self.held.drain(..at + mark.len());
        if self.wrapped {
            self.wrapped = false;
        } else {
            self.state = State::BeforeReasoning;
        }
        true
    }
}
