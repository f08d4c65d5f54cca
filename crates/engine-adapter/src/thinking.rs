//! Translates a request's options for reasoning.

use diagnostics::Diagnostic;
use inference_execution::requests::cannot_reason;
use input_validation::ModelRef;
use reasoning::{Format, Plan, Wish};
use serde_json::{Map, Value};
use worker_contract::{InferRequest, ReasoningOptions};

/// How the reasoning of a request is carried out.
#[derive(Debug, Default)]
pub(crate) struct Thinking {
    /// Variables of the chat template: the client's, and those for reasoning.
    pub variables: Map<String, Value>,
    pub plan: Plan,
    /// Whether the model reasons; absent: as its chat template decides.
    pub enabled: Option<bool>,
    pub effort: Option<String>,
}

impl Thinking {
    /// Plans the reasoning for a model that marks it as `format` says; `can_reason` is whether the
    /// model reasons at all.
    ///
    /// Errors: `INVALID_REQUEST` if reasoning is required and the model cannot reason.
    pub fn new(
        request: &InferRequest,
        format: Option<&Format>,
        can_reason: bool,
        model: &ModelRef,
        notes: &mut Vec<String>,
    ) -> Result<Self, Diagnostic> {
        let no_reasoning = ReasoningOptions {
            enabled: Some(false),
            ..ReasoningOptions::default()
        };
        // A message that has begun is an answer.
        let options = if request.continue_final_message {
            &no_reasoning
        } else {
            &request.reasoning
        };
        let effort = options.effort.as_deref();
        let is_wanted = options.enabled == Some(true) || effort.is_some_and(|word| word != "none");
        if !can_reason && is_wanted {
            if options.required {
                return Err(cannot_reason(model));
            }
            notes.push("the model does not reason; the options for reasoning were ignored".into());
        }
        let mut thinking = Self::default();
        if can_reason {
            thinking.enabled = match (options.max_tokens, effort) {
                (Some(0), _) | (_, Some("none")) => Some(false),
                (_, effort) => options.enabled.or(effort.map(|_| true)),
            };
            thinking.effort = effort.filter(|word| *word != "none").map(str::to_owned);
            thinking.plan.budget = options.max_tokens;
        }
        if let Some(format) = format {
            thinking.plan = format.plan(Wish {
                enabled: options.enabled,
                effort,
                max_tokens: options.max_tokens,
            });
            notes.append(&mut thinking.plan.notes);
        }
        thinking.variables = std::mem::take(&mut thinking.plan.variables);
        // The client's own values take precedence.
        thinking
            .variables
            .extend(request.template_variables.clone());
        Ok(thinking)
    }

    /// Notes that the engine cannot limit reasoning.
    pub fn note_budget(&self, engine: &str, notes: &mut Vec<String>) {
        if self.plan.budget.is_some_and(|tokens| tokens > 0) {
            notes.push(format!(
                "the engine {engine} cannot limit reasoning; the maximum of its tokens was ignored"
            ));
        }
    }
}
