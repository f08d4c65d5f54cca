use std::{collections::BTreeMap, ops::RangeInclusive};

use diagnostics::Diagnostic;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use worker_contract::{InferInput, InferRequest, Sampling, SamplingValues, limits};

use super::{
    chunks::ChunkWriter,
    document::DocumentWriter,
    endpoint::OpenAiEndpoint,
    limits::MAX_TOTAL_CHOICES,
    response_head::ResponseHead,
    schemas::{GuidedChoice, GuidedJson, LogitBiases, OpenAiResponseFormat},
};
use crate::{
    errors::{below_minimum, not_a_token_id, out_of_range, requires, too_many_choices},
    field_names::FieldNames,
    fields::{integer, number, stops},
    parsed_request::{ParsedRequest, RequestContext, ResponseFormat},
    priority::priority,
    response_writer::ResponseWriter,
    schemas::StopSequences,
};

/// Maximum number of choices for one input.
const MAX_CHOICES: u32 = 16;
/// Range of the temperature; workers accept more.
pub(crate) const TEMPERATURE: RangeInclusive<f64> = 0.0..=2.0;
/// Range of the repetition penalty; workers accept more.
const REPETITION_PENALTY: RangeInclusive<f64> = 0.01..=10.0;

/// Fields of chat and text completions.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, ToSchema)]
pub struct OpenAiCommonFields {
    /// Model: an id that `/v1/models` lists, such as `builtin:haiku`, or `file:/path`.
    pub model: String,
    /// Whether to stream the response as server-sent events. Default: false.
    #[schema(default = false)]
    pub stream: Option<bool>,
    /// Options of a stream; requires `stream: true`.
    pub stream_options: Option<StreamOptions>,
    /// Maximum number of tokens to generate; the output also ends where the context does. -1: no
    /// limit but the context; 0 as well for chat completions, while text completions generate
    /// nothing. Default: for chat completions, no limit; for text completions, 16.
    #[schema(minimum = -1)]
    #[serde(default, deserialize_with = "integer")]
    pub max_tokens: Option<i64>,
    /// Sampling temperature, 0 to 2; 0 selects the most likely token (greedy).
    /// Default: the model's recommendation, or 1.
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f64>,
    /// Keeps the smallest set of tokens whose probabilities reach this sum, 0 to 1. Default:
    /// the model's recommendation, or 1 (all tokens).
    #[schema(minimum = 0, maximum = 1)]
    pub top_p: Option<f64>,
    /// Seed of the sampler: the same request with the same seed produces the same output. Drawn
    /// at random if absent; the response header `x-rbee-seed` reports it.
    #[serde(default, deserialize_with = "integer")]
    pub seed: Option<i64>,
    /// One stop sequence or an array of up to 16. The first one to occur ends the output and is
    /// not part of it.
    #[schema(value_type = Option<StopSequences>)]
    pub stop: Option<Value>,
    /// Subtracted from a token's logit for each time the token was generated, -2 to 2.
    /// Default: 0.
    #[schema(minimum = -2, maximum = 2, default = 0)]
    pub frequency_penalty: Option<f64>,
    /// Subtracted from a token's logit if the token was generated, -2 to 2. Default: 0.
    #[schema(minimum = -2, maximum = 2, default = 0)]
    pub presence_penalty: Option<f64>,
    /// Values to add to logits, -100 to 100, by token id.
    #[schema(value_type = Option<LogitBiases>)]
    pub logit_bias: Option<BTreeMap<String, f64>>,
    /// Format of the output: `{"type": "text"}` (the default), `{"type": "json_object"}`, or
    /// `{"type": "json_schema", "json_schema": {"schema": …}}`.
    #[schema(value_type = Option<OpenAiResponseFormat>)]
    pub response_format: Option<Value>,
    /// Extension: JSON schema that the output must match, as an object or its text.
    #[schema(value_type = Option<GuidedJson>)]
    pub guided_json: Option<Value>,
    /// Extension: regular expression that the entire output must match.
    #[schema(value_type = Option<String>)]
    pub guided_regex: Option<Value>,
    /// Extension: grammar in Lark's notation that the output must match.
    #[schema(value_type = Option<String>)]
    pub guided_grammar: Option<Value>,
    /// Extension: up to 1000 strings, one of which is the output.
    #[schema(value_type = Option<GuidedChoice>)]
    pub guided_choice: Option<Value>,
    /// Id of the end user; ignored.
    pub user: Option<String>,
    /// `flex`: the request is served after interactive ones, as with the header
    /// `x-request-priority: batch`. Other tiers have no effect.
    pub service_tier: Option<String>,
    /// Extension: a number above 0 has the effect of `service_tier: flex`.
    #[serde(default, deserialize_with = "integer")]
    pub priority: Option<i64>,
    /// Number of choices to generate, 1 to 16. Default: 1.
    #[schema(minimum = 1, maximum = 16, default = 1)]
    #[serde(default, deserialize_with = "integer")]
    pub n: Option<i64>,
    /// Extension: keeps the k most likely tokens; 0 or -1 keeps all. Default: the
    /// model's recommendation, or 0.
    #[schema(minimum = -1, maximum = 4_294_967_295_u32)]
    #[serde(default, deserialize_with = "integer")]
    pub top_k: Option<i64>,
    /// Extension: keeps tokens at least this fraction as likely as the most likely one, 0 to 1.
    /// Default: the model's recommendation, or 0 (all tokens).
    #[schema(minimum = 0, maximum = 1)]
    pub min_p: Option<f64>,
    /// Extension: divides the positive logits and multiplies the negative logits of tokens that
    /// occurred before; 0.01 to 10. Default: the model's recommendation, or 1
    /// (off).
    #[schema(minimum = 0.01, maximum = 10)]
    pub repetition_penalty: Option<f64>,
}

/// Options of a stream.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, ToSchema)]
pub struct StreamOptions {
    /// Whether a last chunk without choices reports the token counts. Default: false.
    #[schema(default = false)]
    pub include_usage: Option<bool>,
}

/// Optional parts of a response.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResponseParts {
    /// A last chunk with the token counts.
    pub include_usage: bool,
    /// The reasoning of the model.
    pub reasoning: bool,
}

impl OpenAiCommonFields {
    fn stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(super) fn include_usage(&self) -> Result<bool, Diagnostic> {
        match &self.stream_options {
            Some(_) if !self.stream() => Err(requires("stream_options", "stream: true")),
            Some(options) => Ok(options.include_usage.unwrap_or(false)),
            None => Ok(false),
        }
    }

    pub(super) fn sampling(&self) -> Result<Sampling, Diagnostic> {
        let values = SamplingValues {
            temperature: number("temperature", self.temperature, &TEMPERATURE)?,
            top_p: number("top_p", self.top_p, &limits::PROBABILITY)?,
            top_k: match self.top_k {
                None => None,
                // Some servers use -1 for "all tokens".
                Some(-1) => Some(0),
                Some(k) => Some(u32::try_from(k).map_err(|_| below_minimum("top_k", 0, k))?),
            },
            min_p: number("min_p", self.min_p, &limits::PROBABILITY)?,
            repetition_penalty: number(
                "repetition_penalty",
                self.repetition_penalty,
                &REPETITION_PENALTY,
            )?,
            frequency_penalty: number(
                "frequency_penalty",
                self.frequency_penalty,
                &limits::ADDITIVE_PENALTY,
            )?,
            presence_penalty: number(
                "presence_penalty",
                self.presence_penalty,
                &limits::ADDITIVE_PENALTY,
            )?,
            ..SamplingValues::default()
        };
        Ok(Sampling {
            values,
            logit_bias: self.logit_bias()?,
            seed: self.seed.map(i64::cast_unsigned),
            choice: 0,
        })
    }

    fn logit_bias(&self) -> Result<Vec<(u32, f32)>, Diagnostic> {
        const PARAM: &str = "logit_bias";
        self.logit_bias
            .iter()
            .flatten()
            .map(|(token, bias)| {
                let id = token.parse().map_err(|_| not_a_token_id(PARAM, token))?;
                let bias = number(PARAM, Some(*bias), &limits::LOGIT_BIAS)?;
                Ok((id, bias.unwrap_or(0.0)))
            })
            .collect()
    }

    fn choices(&self) -> Result<u32, Diagnostic> {
        match self.n {
            None => Ok(1),
            Some(n) => u32::try_from(n)
                .ok()
                .filter(|n| (1..=MAX_CHOICES).contains(n))
                .ok_or_else(|| out_of_range("n", 1, MAX_CHOICES, n)),
        }
    }

    pub(super) fn stop(&self) -> Result<Vec<String>, Diagnostic> {
        stops("stop", self.stop.as_ref())
    }

    /// Adds to `request` what the response needs.
    pub(super) fn into_parsed(
        self,
        endpoint: OpenAiEndpoint,
        request: InferRequest,
        field_names: FieldNames,
        parts: ResponseParts,
        context: &RequestContext,
    ) -> Result<ParsedRequest, Diagnostic> {
        let inputs = (request, Vec::new());
        self.into_parsed_inputs(endpoint, inputs, field_names, parts, context)
    }

    /// Same as [`into_parsed`](Self::into_parsed), for a request with further inputs.
    pub(super) fn into_parsed_inputs(
        self,
        endpoint: OpenAiEndpoint,
        (request, further_inputs): (InferRequest, Vec<InferInput>),
        field_names: FieldNames,
        parts: ResponseParts,
        context: &RequestContext,
    ) -> Result<ParsedRequest, Diagnostic> {
        let choices = self.choices()?;
        let inputs = u32::try_from(further_inputs.len() + 1).unwrap_or(u32::MAX);
        let total = choices.saturating_mul(inputs);
        if total > MAX_TOTAL_CHOICES {
            return Err(too_many_choices(
                field_names.input,
                inputs,
                choices,
                MAX_TOTAL_CHOICES,
            ));
        }
        let logprobs = request.logprobs.is_some();
        let head = ResponseHead::new(endpoint, self.model.clone(), &request.tool_choice, context)
            .with_choices_per_input(choices)
            .with_reasoning(parts.reasoning);
        let (format, writer): (_, Box<dyn ResponseWriter>) = if self.stream() {
            let writer = ChunkWriter::new(head, parts.include_usage, logprobs, total);
            (ResponseFormat::Events, Box::new(writer))
        } else {
            let writer = DocumentWriter::new(head, logprobs, total);
            (ResponseFormat::Document, Box::new(writer))
        };
        Ok(ParsedRequest {
            priority: priority(self.service_tier.as_deref(), self.priority),
            model: self.model,
            request,
            choices,
            further_inputs,
            format,
            field_names,
            notes: Vec::new(),
            writer,
        })
    }
}
