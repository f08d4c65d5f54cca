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
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .filter(|l| !l.is_nan())
        .map(|l| f64::from(l - max).exp())
        .sum();
    let log_sum = f64::from(max) + sum.ln();
    let of = |logit: f32| (f64::from(logit) - log_sum) as f32;

    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let likelier_first = |a: &u32, b: &u32| {
        super::descending(logits[*a as usize], logits[*b as usize]).then(a.cmp(b))
    };
    let top = top.min(ids.len());
    if top > 0 && top < ids.len() {
        ids.select_nth_unstable_by(top - 1, likelier_first);
    }
    ids.truncate(top);
    ids.sort_unstable_by(likelier_first);
    Logprob {
        chosen: logits
            .get(chosen as usize)
            .map_or(f32::NEG_INFINITY, |l| of(*l)),
        top: ids
            .into_iter()
            .map(|id| (id, of(logits[id as usize])))
            .collect(),
    }
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
