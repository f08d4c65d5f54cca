use std::{fmt, ops::RangeInclusive};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    defaults::is_zero,
    limits::{ADDITIVE_PENALTY, PROBABILITY, REPETITION_PENALTY, TEMPERATURE},
    schemas::LogitBias,
};

/// Value of `penalty_window` for all tokens.
pub const ALL_TOKENS: u32 = u32::MAX;

/// Parameters of the sampler. A parameter that is absent has the value of the next source, in
/// this order: the request, the model's recommendation, the default of the client's API, and
/// last the neutral value, which leaves the model's distribution unchanged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SamplingValues {
    /// Divisor of the logits; 0 selects the most likely token (greedy). Neutral: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 100)]
    pub temperature: Option<f32>,
    /// Keeps the smallest set of tokens whose probabilities reach this sum; 1 keeps all tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub top_p: Option<f32>,
    /// Keeps the k most likely tokens; 0 keeps all tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Keeps tokens at least this fraction as likely as the most likely one; 0 keeps all
    /// tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub min_p: Option<f32>,
    /// Keeps the tokens whose information is closest to the expected one, until their
    /// probabilities reach this sum (locally typical sampling); 1 keeps all tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub typical_p: Option<f32>,
    /// Divides the positive logits and multiplies the negative logits of tokens that occurred
    /// before; 1 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.01, maximum = 100)]
    pub repetition_penalty: Option<f32>,
    /// Subtracted from a token's logit for each time the token was generated; 0 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -2, maximum = 2)]
    pub frequency_penalty: Option<f32>,
    /// Subtracted from a token's logit if the token was generated; 0 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -2, maximum = 2)]
    pub presence_penalty: Option<f32>,
    /// Number of last tokens, of prompt and output, that the penalties consider; 4294967295
    /// (neutral) considers all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty_window: Option<u32>,
}

// No value is NaN: JSON cannot express it, and values of models are checked.
impl Eq for SamplingValues {}

impl SamplingValues {
    /// Whether no value is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns these values, and those of `next` where they are absent.
    #[must_use]
    pub fn or(&self, next: &Self) -> Self {
        Self {
            temperature: self.temperature.or(next.temperature),
            top_p: self.top_p.or(next.top_p),
            top_k: self.top_k.or(next.top_k),
            min_p: self.min_p.or(next.min_p),
            typical_p: self.typical_p.or(next.typical_p),
            repetition_penalty: self.repetition_penalty.or(next.repetition_penalty),
            frequency_penalty: self.frequency_penalty.or(next.frequency_penalty),
            presence_penalty: self.presence_penalty.or(next.presence_penalty),
            penalty_window: self.penalty_window.or(next.penalty_window),
        }
    }

    /// Returns the first value outside its range, with its name and range.
    pub fn out_of_range(&self) -> Option<(&'static str, RangeInclusive<f64>, f32)> {
        [
            ("temperature", TEMPERATURE, self.temperature),
            ("top_p", PROBABILITY, self.top_p),
            ("min_p", PROBABILITY, self.min_p),
            ("typical_p", PROBABILITY, self.typical_p),
            (
                "repetition_penalty",
                REPETITION_PENALTY,
                self.repetition_penalty,
            ),
            (
                "frequency_penalty",
                ADDITIVE_PENALTY,
                self.frequency_penalty,
            ),
            ("presence_penalty", ADDITIVE_PENALTY, self.presence_penalty),
        ]
        .into_iter()
        .filter_map(|(name, range, value)| Some((name, range, value?)))
        // The bounds are rounded as the value was. NaN is in no range.
        .find(|(_, range, value)| !(*range.start() as f32..=*range.end() as f32).contains(value))
    }

    /// Reads the values that a model recommends, by the names of the fields; -1 as
    /// `penalty_window` means all tokens. Returns sentences about values that are ignored
    /// because they are invalid.
    pub fn recommended(values: &[(&str, f64)]) -> (Self, Vec<String>) {
        let (mut sampling, mut ignored) = (Self::default(), Vec::new());
        for (name, value) in values {
            let mut only = Self::default();
            match only.set(name, *value) {
                Some(()) if only.out_of_range().is_none() => sampling = only.or(&sampling),
                _ => ignored.push(format!("the recommended {name} of {value} is invalid")),
            }
        }
        (sampling, ignored)
    }

    fn set(&mut self, name: &str, value: f64) -> Option<()> {
        let count = || {
            let is_count = value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value);
            is_count.then_some(value as u32)
        };
        let number = Some(value as f32);
        match name {
            "temperature" => self.temperature = number,
            "top_p" => self.top_p = number,
            "top_k" if value == -1.0 => self.top_k = Some(0),
            "top_k" => self.top_k = Some(count()?),
            "min_p" => self.min_p = number,
            "typical_p" => self.typical_p = number,
            "repetition_penalty" => self.repetition_penalty = number,
            "frequency_penalty" => self.frequency_penalty = number,
            "presence_penalty" => self.presence_penalty = number,
            "penalty_window" if value == -1.0 => self.penalty_window = Some(ALL_TOKENS),
            "penalty_window" => self.penalty_window = Some(count()?),
            _ => return None,
        }
        Some(())
    }
}

/// Writes the set values as `temperature=0.7, top_k=20`.
impl fmt::Display for SamplingValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut write = |name: &str, value: Option<&dyn fmt::Display>| {
            let Some(value) = value else { return Ok(()) };
            write!(f, "{separator}{name}={value}")?;
            separator = ", ";
            Ok(())
        };
        write("temperature", shown(self.temperature.as_ref()))?;
        write("top_p", shown(self.top_p.as_ref()))?;
        write("top_k", shown(self.top_k.as_ref()))?;
        write("min_p", shown(self.min_p.as_ref()))?;
        write("typical_p", shown(self.typical_p.as_ref()))?;
        write(
            "repetition_penalty",
            shown(self.repetition_penalty.as_ref()),
        )?;
        write("frequency_penalty", shown(self.frequency_penalty.as_ref()))?;
        write("presence_penalty", shown(self.presence_penalty.as_ref()))?;
        write("penalty_window", shown(self.penalty_window.as_ref()))
    }
}

fn shown<T: fmt::Display>(value: Option<&T>) -> Option<&dyn fmt::Display> {
    value.map(|value| value as &dyn fmt::Display)
}

/// Parameters of the sampler that a request sets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Sampling {
    /// Values that precede the model's recommendation.
    #[serde(flatten)]
    pub values: SamplingValues,
    /// Values to add to logits, as pairs of token id and value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<LogitBias>)]
    pub logit_bias: Vec<(u32, f32)>,
    /// Seed: the same request with the same seed produces the same output. Drawn at random if
    /// absent; the response reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Index of this choice among several choices for one input. Choices draw different random
    /// numbers from the same seed.
    #[serde(skip_serializing_if = "is_zero")]
    pub choice: u32,
}

impl Sampling {
    /// Selects the most likely token at each position.
    pub fn greedy() -> Self {
        Self {
            values: SamplingValues {
                temperature: Some(0.0),
                ..SamplingValues::default()
            },
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_flat_and_null_is_absent() {
        let sampling: Sampling =
            serde_json::from_str(r#"{"temperature": null, "top_p": 0.7, "seed": 3}"#).unwrap();
        assert_eq!(
            (sampling.values.temperature, sampling.seed),
            (None, Some(3))
        );
        assert_eq!(
            serde_json::to_string(&sampling).unwrap(),
            r#"{"top_p":0.7,"seed":3}"#
        );
    }

    #[test]
    fn recommended_values_are_read_or_ignored() {
        let (values, ignored) = SamplingValues::recommended(&[
            ("temperature", 0.7),
            ("top_k", 20.0),
            ("top_p", 1.5),
            ("min_p", f64::NAN),
            ("penalty_window", -1.0),
        ]);
        assert_eq!(
            values.to_string(),
            "temperature=0.7, top_k=20, penalty_window=4294967295"
        );
        assert_eq!(
            ignored,
            [
                "the recommended top_p of 1.5 is invalid",
                "the recommended min_p of NaN is invalid"
            ]
        );
        for bad in [-2.0, 0.5, 1e12] {
            assert!(SamplingValues::recommended(&[("top_k", bad)]).0.is_empty());
        }
    }

    #[test]
    fn the_first_source_that_has_a_value_decides() {
        let values = |text| serde_json::from_str::<SamplingValues>(text).unwrap();
        let request = values(r#"{"temperature": 0}"#);
        let model = values(r#"{"temperature": 0.7, "top_k": 20}"#);
        let edge = values(r#"{"top_k": 40, "top_p": 0.9}"#);
        assert_eq!(
            request.or(&model).or(&edge),
            values(r#"{"temperature": 0, "top_k": 20, "top_p": 0.9}"#)
        );
    }
}
