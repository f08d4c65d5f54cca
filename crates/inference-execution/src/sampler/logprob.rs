use super::weight::{BLOCK, Scale, largest};

/// The log probability of one token and the likeliest others, of the raw logits.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprob {
    /// Natural logarithm of the chosen token's probability.
    pub chosen: f32,
    /// The likeliest tokens with theirs, likeliest first, the lower id first among equals.
    pub top: Vec<(u32, f32)>,
}

/// Log-softmax of `logits` at `chosen`, and at the `top` likeliest tokens.
pub fn logprob(logits: &[f32], chosen: u32, top: usize) -> Logprob {
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
    Logprob {
        chosen: logits
            .get(chosen as usize)
            .map_or(f32::NEG_INFINITY, |l| of(*l)),
        top: likeliest(logits, top)
            .into_iter()
            .map(|(id, logit)| (id, of(logit)))
            .collect(),
    }
}

/// The `count` largest logits with their ids, largest first, the lower id first among equals;
/// what is not a number counts as negative infinity.
fn likeliest(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
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
        for (place, logit) in block.iter().enumerate() {
            let logit = if logit.is_nan() {
                f32::NEG_INFINITY
            } else {
                *logit
            };
            // Ids rise, so an equal that came before stays before.
            let rank = top.partition_point(|(_, larger)| *larger >= logit);
            if rank < count {
                top.insert(rank, ((nth * BLOCK + place) as u32, logit));
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
    fn probabilities_sum_to_one_and_order_is_by_likelihood() {
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
