use serde_json::{Map, Value, json};
use worker_contract::ReasoningOptions;

use crate::{
    format::{Format, Syntax},
    source::Source,
};

/// Words for the effort of reasoning in ascending order. Chat templates know some of them.
const EFFORTS: [&str; 6] = ["minimal", "low", "medium", "high", "xhigh", "max"];
/// Variables for the effort.
const EFFORT_VARIABLES: [&str; 3] = ["reasoning_effort", "thinking_effort", "reasoning_strength"];
/// Words that turn reasoning off in a variable for the effort.
const OFF_WORDS: [&str; 2] = ["none", "no_think"];
/// Variable for the maximum number of reasoning tokens: Seed-OSS.
const BUDGET_VARIABLE: &str = "thinking_budget";

/// What a chat template offers to control reasoning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Controls {
    /// Variables that turn reasoning on and off.
    switches: Vec<Switch>,
    effort: Option<Effort>,
    has_budget: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Switch {
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

    fn set(self, enabled: bool) -> (&'static str, Value) {
        match self {
            Self::Flag(name) => (name, enabled.into()),
            Self::Words(name, on, off) => (name, if enabled { on } else { off }.into()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Effort {
    variable: &'static str,
    /// Words that the template compares with; empty if it passes on any word.
    words: Vec<&'static str>,
    off: Option<&'static str>,
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

/// How a request's options for reasoning are carried out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Variables of the chat template.
    pub variables: Map<String, Value>,
    /// Whether reasoning that the prompt opens is closed in the prompt.
    pub close_in_prompt: bool,
    /// Maximum number of reasoning tokens.
    pub budget: Option<u32>,
    /// What was changed or ignored, as sentences for the user.
    pub notes: Vec<String>,
}

impl Format {
    /// Returns how the model carries out these options.
    pub fn plan(&self, options: &ReasoningOptions) -> Plan {
        let mut plan = Plan {
            budget: options.max_tokens,
            ..Plan::default()
        };
        let effort = options.effort.as_deref();
        let enabled = match (options.max_tokens, effort) {
            (Some(0), _) | (_, Some("none")) => Some(false),
            (_, effort) => options.enabled.or(effort.map(|_| true)),
        };
        match enabled {
            Some(false) => self.turn_off(&mut plan),
            Some(true) => {
                for switch in &self.controls.switches {
                    plan.set(switch.set(true));
                }
                if let Some(effort) = effort {
                    self.set_effort(effort, &mut plan);
                }
                self.set_budget(options.max_tokens, &mut plan);
            }
            None => self.set_budget(options.max_tokens, &mut plan),
        }
        plan
    }

    fn turn_off(&self, plan: &mut Plan) {
        let controls = &self.controls;
        for switch in &controls.switches {
            plan.set(switch.set(false));
        }
        if controls.switches.is_empty() {
            if let Some((variable, off)) = controls
                .effort
                .as_ref()
                .and_then(|effort| Some((effort.variable, effort.off?)))
            {
                plan.set((variable, off.into()));
            } else if controls.has_budget {
                plan.set((BUDGET_VARIABLE, 0.into()));
            } else {
                self.set_effort("low", plan);
                plan.notes.clear();
                plan.notes.push(
                    "the model's chat template cannot turn reasoning off; reasoning is ended \
                     where it begins"
                        .into(),
                );
            }
        }
        // Also ends what the model writes in spite of the template.
        plan.close_in_prompt = true;
        plan.budget = Some(0);
    }

    fn set_budget(&self, max_tokens: Option<u32>, plan: &mut Plan) {
        if let Some(max_tokens) = max_tokens.filter(|_| self.controls.has_budget) {
            plan.set((BUDGET_VARIABLE, max_tokens.into()));
        }
    }

    fn set_effort(&self, effort: &str, plan: &mut Plan) {
        let Some(control) = &self.controls.effort else {
            plan.notes.push(format!(
                "the model has no levels of reasoning effort; {} was ignored",
                json!(effort)
            ));
            return;
        };
        let word = match self.syntax {
            // Its template passes on any word, but the model knows only these.
            Syntax::Harmony => nearest(effort, &["low", "medium", "high"]),
            Syntax::Marks(_) if control.words.is_empty() => Some(effort),
            Syntax::Marks(_) => nearest(effort, &control.words),
        };
        let Some(word) = word else {
            plan.notes.push(format!(
                "the model does not know the reasoning effort {}; it was ignored",
                json!(effort)
            ));
            return;
        };
        if word != effort {
            plan.notes.push(format!(
                "the model does not know the reasoning effort {}; {} is used",
                json!(effort),
                json!(word)
            ));
        }
        plan.set((control.variable, word.into()));
    }
}

impl Plan {
    fn set(&mut self, (name, value): (&'static str, Value)) {
        self.variables.insert(name.to_owned(), value);
    }
}

/// Returns the word that is closest to `effort` among `words`, which are in ascending order;
/// `None` if `effort` is not a known word.
fn nearest<'a>(effort: &str, words: &[&'a str]) -> Option<&'a str> {
    let rank = |word: &str| EFFORTS.iter().position(|known| *known == word);
    let wanted = rank(effort)?;
    let distance = |word: &&&str| rank(word).map_or(usize::MAX, |rank| rank.abs_diff(wanted));
    words.iter().min_by_key(distance).copied()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
