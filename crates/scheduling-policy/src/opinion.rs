use std::cmp::Ordering;

use diagnostics::excerpt;
use rhai::{Dynamic, FLOAT, INT};

use crate::{errors::Cause, limits};

/// What a script says about a candidate.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Opinion {
    /// Nothing, which counts as the score 0.
    #[default]
    None,
    /// Candidates with a higher score come first; it is finite. Those with equal scores stay in the
    /// default order.
    Score(f64),
    /// It is not used, for this reason.
    Refused(String),
}

impl Opinion {
    pub(crate) fn from_result(result: Dynamic) -> Result<Self, Cause> {
        if result.is_unit() {
            return Ok(Self::None);
        }
        if let Some(score) = result.clone().try_cast::<INT>() {
            return Ok(Self::Score(score as f64));
        }
        if let Some(score) = result.clone().try_cast::<FLOAT>() {
            if score.is_finite() {
                return Ok(Self::Score(score));
            }
            return Err(Cause::new(format!("the score {score} is not a number")));
        }
        match result.into_string() {
            Ok(reason) if reason.trim().is_empty() => {
                Err(Cause::new("a refusal must have a reason"))
            }
            Ok(reason) => Ok(Self::Refused(excerpt(&reason, limits::REASON_CHARS))),
            Err(kind) => Err(Cause::new(format!(
                "it returned a value of type {kind}; use a number, a text that refuses the \
                 candidate, or ()"
            ))),
        }
    }

    /// The score, which is 0 without an opinion; `None` if the candidate is refused.
    pub fn score(&self) -> Option<f64> {
        match self {
            Self::None => Some(0.0),
            Self::Score(score) => Some(*score),
            Self::Refused(_) => None,
        }
    }
}

/// Orders candidates by their scores, the highest first, those with equal scores as they were, and
/// the refused ones last. A candidate with a lower `class` is before all with a higher one, whatever
/// their scores are.
pub fn ranked<T, K: Ord>(
    candidates: Vec<(T, Opinion)>,
    class: impl Fn(&T) -> K,
) -> Vec<(T, Opinion)> {
    let mut candidates = candidates;
    candidates.sort_by(|(a, x), (b, y)| match (x.score(), y.score()) {
        (Some(x), Some(y)) => class(a).cmp(&class(b)).then_with(|| y.total_cmp(&x)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    });
    candidates
}
