use std::collections::VecDeque;

use reasoning::Phase;
use worker_contract::{Constraint, InferRequest};

use crate::reasoning_request::OutputReasoning;

/// Follows the reasoning of one output: counts its tokens, ends it at the limit, and decides
/// which tokens a constraint applies to.
///
/// All decisions depend on the tokens so far only, so that a continued output is the same.
#[derive(Debug)]
pub(super) struct ReasoningControl {
    budget: Option<u32>,
    opening: Vec<u32>,
    closing: Vec<u32>,
    /// Tokens that come next, whatever the model prefers.
    forced: VecDeque<u32>,
    /// Number of reasoning tokens so far.
    count: u32,
    /// A constrained answer may be preceded by reasoning.
    opens_before_constraint: bool,
}

impl ReasoningControl {
    /// Returns the control of an output that begins in `phase`.
    pub fn new(request: &InferRequest, reasoning: Option<&OutputReasoning>, phase: Phase) -> Self {
        let mut control = Self {
            budget: None,
            opening: Vec::new(),
            closing: Vec::new(),
            forced: VecDeque::new(),
            count: 0,
            opens_before_constraint: false,
        };
        let Some(reasoning) = reasoning else {
            return control;
        };
        control.budget = reasoning.budget;
        control.opening.clone_from(&reasoning.opening);
        control.closing.clone_from(&reasoning.closing);
        let is_constrained = request.constraint.is_some() || request.tool_choice.must_call();
        if is_constrained && phase == Phase::Start {
            if reasoning.always_opens {
                control.forced.extend(&reasoning.opening);
            } else {
                control.opens_before_constraint =
                    reasoning.budget != Some(0) && is_unambiguous(request, &reasoning.opening);
            }
        }
        control.limit(phase);
        control
    }

    /// Returns the number of reasoning tokens so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the token that comes next, whatever the model prefers.
    pub fn forced(&self) -> Option<u32> {
        self.forced.front().copied()
    }

    /// Returns a token that is allowed in `phase` in addition to those of the constraint.
    pub fn allowed_opening(&self, phase: Phase) -> Option<u32> {
        let first = self.opening.first().copied();
        first.filter(|_| self.opens_before_constraint && phase == Phase::Start)
    }

    /// Returns the token that replaces an end token in the middle of the reasoning: a
    /// constrained output must have an answer.
    pub fn instead_of_end(&mut self, phase: Phase) -> Option<u32> {
        if phase == Phase::Reasoning {
            self.forced.extend(&self.closing);
        }
        self.forced()
    }

    /// Whether the constraint applies to `token`, which was sampled in phase `before`.
    pub fn is_constrained(&self, token: u32, before: Phase) -> bool {
        match before {
            Phase::Answer => true,
            Phase::Start => self.forced.is_empty() && self.allowed_opening(before) != Some(token),
            Phase::Reasoning | Phase::Between => false,
        }
    }

    /// Records a token, which changed the phase from `before` to `after`.
    pub fn record(&mut self, token: u32, before: Phase, after: Phase) {
        if self.forced.front() == Some(&token) {
            self.forced.pop_front();
        } else if self.allowed_opening(before) == Some(token) {
            self.forced.extend(self.opening.iter().skip(1));
        }
        if before == Phase::Reasoning && after == Phase::Reasoning {
            self.count += 1;
        }
        self.limit(after);
    }

    /// Ends the reasoning if it has as many tokens as it may have.
    fn limit(&mut self, phase: Phase) {
        let is_full = self.budget.is_some_and(|budget| self.count >= budget);
        if phase == Phase::Reasoning && is_full && self.forced.is_empty() {
            self.forced.extend(&self.closing);
        }
    }
}

/// Whether a constrained answer cannot begin with the first token of the opening mark.
fn is_unambiguous(request: &InferRequest, opening: &[u32]) -> bool {
    let is_json = !matches!(
        request.constraint,
        Some(Constraint::Regex(_) | Constraint::Grammar(_))
    );
    opening.len() == 1 || is_json || request.tool_choice.must_call()
}
