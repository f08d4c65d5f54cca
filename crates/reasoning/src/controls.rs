use serde_json::Value;

use crate::source::Source;

/// Words for the effort of reasoning in ascending order. Chat templates know some of them.
pub(crate) const EFFORTS: [&str; 6] = ["minimal", "low", "medium", "high", "xhigh", "max"];
/// Variables for the effort.
const EFFORT_VARIABLES: [&str; 3] = ["reasoning_effort", "thinking_effort", "reasoning_strength"];
/// Words that turn reasoning off in a variable for the effort.
const OFF_WORDS: [&str; 2] = ["none", "no_think"];
/// Variable for the maximum number of reasoning tokens: Seed-OSS.
pub(crate) const BUDGET_VARIABLE: &str = "thinking_budget";

/// What a chat template offers to control reasoning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Controls {
    /// Variables that turn reasoning on and off.
    pub switches: Vec<Switch>,
    pub effort: Option<Effort>,
    pub has_budget: bool,
}

/// Variable that turns reasoning on and off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Switch {
    /// A variable that is true or false.
    Flag(&'static str),
    /// A variable with the words for on and off.
    Words(&'static str, &'static str, &'static str),
}

const SWITCHES: [Switch; 4] = [
    Switch::Flag("enable_thinking"),
    // DeepSeek V3.1, Granite, Kimi K3.
    Switch::Flag("thinking"),
    // MiniMax M3.
    Switch::Words("thinking_mode", "enabled", "disabled"),
    // Ling 3.
    Switch::Words("thinking_option", "on", "off"),
];

impl Switch {
    fn is_in(self, source: &Source<'_>) -> bool {
        match self {
            Self::Flag(name) => source.reads(name),
            Self::Words(name, on, off) => {
                source.reads(name) && (source.quotes(on) || source.quotes(off))
            }
        }
    }

    /// Returns the variable with its value.
    pub fn set(self, enabled: bool) -> (&'static str, Value) {
        match self {
            Self::Flag(name) => (name, enabled.into()),
            Self::Words(name, on, off) => (name, if enabled { on } else { off }.into()),
        }
    }
}

/// Variable for the effort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effort {
    pub variable: &'static str,
    /// Words that the template compares with; empty if it passes on any word.
    pub words: Vec<&'static str>,
    pub off: Option<&'static str>,
}

impl Controls {
    pub fn of(source: &Source<'_>) -> Self {
        let switches = SWITCHES.into_iter().filter(|switch| switch.is_in(source));
        let variable = EFFORT_VARIABLES.into_iter().find(|name| source.reads(name));
        let quoted = |words: &[&'static str]| -> Vec<&'static str> {
            let words = words.iter().copied();
            words.filter(|word| source.quotes(word)).collect()
        };
        Self {
            switches: switches.collect(),
            effort: variable.map(|variable| Effort {
                variable,
                words: quoted(&EFFORTS),
                off: quoted(&OFF_WORDS).first().copied(),
            }),
            has_budget: source.reads(BUDGET_VARIABLE),
        }
    }
}
