//! Translates a request's options for reasoning to what its model understands.

use diagnostics::Diagnostic;
use input_validation::ModelRef;
use reasoning::{Format, Plan, Splitter, Start, Wish};
use serde_json::{Map, Value};
use text_codec::Codec;
use worker_contract::{InferInput, ReasoningOptions};

use crate::errors;

/// Number of tokens at the end of a prompt that contain the marks, if there are any.
const PROMPT_END_TOKENS: usize = 64;

/// How the model reasons before it answers a request.
#[derive(Debug)]
pub(crate) struct RequestedReasoning<'a> {
    /// Variables of the chat template: the client's, and those for reasoning.
    pub variables: Map<String, Value>,
    format: Option<&'a Format>,
    plan: Plan,
}

/// The reasoning of an output.
#[derive(Debug, Clone)]
pub(crate) struct OutputReasoning {
    /// Splitter before the first token.
    pub splitter: Splitter,
    /// Maximum number of reasoning tokens.
    pub budget: Option<u32>,
    /// Tokens that begin reasoning, or the first header.
    pub opening: Vec<u32>,
    /// Tokens that end reasoning.
    pub closing: Vec<u32>,
    /// Whether every output begins with `opening`.
    pub always_opens: bool,
}

impl<'a> RequestedReasoning<'a> {
    /// Plans the reasoning for a request. A prompt without a chat template is continued as it
    /// is: its output is not split.
    ///
    /// Errors: `INVALID_REQUEST` if reasoning is required and the model cannot reason.
    pub fn new(
        input: &InferInput,
        options: &ReasoningOptions,
        client_variables: &Map<String, Value>,
        model: &ModelRef,
        codec: &'a Codec,
        notes: &mut Vec<String>,
    ) -> Result<Self, Diagnostic> {
        let mut format = codec.reasoning();
        let can_reason = format.is_some_and(Format::in_template);
        let is_wanted = options.enabled == Some(true)
            || options.effort.as_deref().is_some_and(|word| word != "none");
        if !can_reason && is_wanted {
            if options.required {
                return Err(errors::cannot_reason(model));
            }
            notes.push("the model does not reason; the options for reasoning were ignored".into());
        }
        if !matches!(input, InferInput::Messages(_)) {
            format = None;
        }
        let mut plan = match format {
            Some(format) if can_reason => format.plan(Wish {
                enabled: options.enabled,
                effort: options.effort.as_deref(),
                max_tokens: options.max_tokens,
            }),
            _ => Plan::default(),
        };
        notes.append(&mut plan.notes);
        let mut variables = std::mem::take(&mut plan.variables);
        // The client's own values take precedence.
        variables.extend(client_variables.clone());
        Ok(Self {
            variables,
            format,
            plan,
        })
    }

    /// Returns how the output after `prompt` is split; `None` if all of it is the answer. Closes
    /// reasoning that the prompt opens if it is turned off.
    pub fn output(
        self,
        prompt: &mut Vec<u32>,
        codec: &Codec,
    ) -> Result<Option<OutputReasoning>, Diagnostic> {
        let Some(format) = self.format else {
            return Ok(None);
        };
        let mut start = format.start(&codec.end_of(prompt, PROMPT_END_TOKENS));
        let closing = codec.encode_output(format.closing())?;
        if start == Start::Reasoning && self.plan.close_in_prompt {
            prompt.extend(&closing);
            start = Start::Answer;
        }
        let splitter = format.splitter(start);
        if splitter.is_transparent() {
            return Ok(None);
        }
        Ok(Some(OutputReasoning {
            splitter,
            budget: self.plan.budget,
            opening: codec.encode_output(format.opening())?,
            closing,
            always_opens: format.always_opens(),
        }))
    }
}
