use serde_json::{Map, Value, json};

use crate::{
    controls::{BUDGET_VARIABLE, EFFORTS},
    format::{Format, Syntax},
};

/// What a request asks of reasoning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish<'a> {
    /// Whether the model reasons. `None`: as the chat template decides.
    pub enabled: Option<bool>,
    /// How much the model reasons: `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`, or
    /// another word that its chat template knows.
    pub effort: Option<&'a str>,
    /// Maximum number of reasoning tokens; 0 turns reasoning off.
    pub max_tokens: Option<u32>,
}

/// How a wish is carried out.
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
    /// Returns how the model carries out a wish.
    pub fn plan(&self, wish: Wish<'_>) -> Plan {
        let mut plan = Plan {
            budget: wish.max_tokens,
            ..Plan::default()
        };
        let effort = wish.effort;
        let enabled = match (wish.max_tokens, effort) {
            (Some(0), _) | (_, Some("none")) => Some(false),
            (_, effort) => wish.enabled.or(effort.map(|_| true)),
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
                self.set_budget(wish.max_tokens, &mut plan);
            }
            None => self.set_budget(wish.max_tokens, &mut plan),
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

/// Returns the word that is closest to `effort` among `words`, which are in ascending order, but
/// not much more; `None` if `effort` is not a known word or there is no such word.
fn nearest<'a>(effort: &str, words: &[&'a str]) -> Option<&'a str> {
    let rank = |word: &str| EFFORTS.iter().position(|known| *known == word);
    let wanted = rank(effort)?;
    let ranked = words.iter().filter_map(|word| Some((rank(word)?, *word)));
    let ranked = ranked.filter(|(rank, _)| *rank <= wanted + 1);
    let nearest = ranked.min_by_key(|(rank, _)| rank.abs_diff(wanted));
    nearest.map(|(_, word)| word)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
