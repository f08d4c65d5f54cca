use super::weight::{BLOCK, Scale, largest};

/// Log probabilities at one position: natural logarithms, before temperature and filters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Logprobs {
    /// Log probability of the sampled token.
    pub chosen: f32,
    /// The most likely tokens in descending order; among equals the lower id first.
    pub top: Vec<(u32, f32)>,
}

/// Computes the log-softmax of `logits` at `chosen` and at the `top` most likely tokens.
pub(crate) fn logprob(logits: &[f32], chosen: u32, top: usize) -> Logprobs {
    let max = largest(logits);
    let scale = Scale {
        max,
        temperature: 1.0,
    };
    let sum: f64 = logits
        .chunks(BLOCK)
        .map(|block| scale.sum_unrounded(block))
        .sum();
    let log_sum = f64::from(max) + sum.ln();
    let of = |logit: f32| (f64::from(logit) - log_sum) as f32;
    Logprobs {
        chosen: logits
            .get(chosen as usize)
            .map_or(f32::NEG_INFINITY, |l| of(*l)),
        top: largest_logits(logits, top)
            .into_iter()
            .map(|(id, logit)| (id, of(logit)))
            .collect(),
    }
}

/// Returns the `count` largest logits with their ids in descending order; among equals the
/// lower id first. NaN counts as negative infinity.
fn largest_logits(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let count = count.min(logits.len());
    let mut top: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    if count == 0 {
        return top;
    }
    for (nth, block) in logits.chunks(BLOCK).enumerate() {
        let full = top.len() == count;
        if full
            && top
                .last()
                .is_some_and(|(_, least)| largest(block) <= *least)
        {
            continue;
        }
        for (offset, logit) in block.iter().enumerate() {
            let logit = if logit.is_nan() {
                f32::NEG_INFINITY
            } else {
                *logit
            };
            // Ids ascend, so an equal logit that was inserted earlier stays first.
            let rank = top.partition_point(|(_, larger)| *larger >= logit);
            if rank < count {
                top.insert(rank, ((nth * BLOCK + offset) as u32, logit));
                top.truncate(count);
            }
        }
    }
    top
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_in_descending_order() {
        let logits = [1.0, 3.0, 2.0, 3.0];
        let result = logprob(&logits, 2, 4);
        assert_eq!(
            result.top.iter().map(|t| t.0).collect::<Vec<_>>(),
            [1, 3, 2, 0]
        );
        let sum: f32 = result.top.iter().map(|t| t.1.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        assert_eq!(result.chosen, result.top[2].1);
        assert_eq!(logprob(&logits, 0, 2).top.len(), 2);
        assert!(logprob(&logits, 0, 0).top.is_empty());
        assert_eq!(logprob(&[0.0, 0.0], 0, 9).chosen, -std::f32::consts::LN_2);
    }
}
