use proptest::prelude::*;

use super::*;

fn greedy() -> Sampling {
    Sampling {
        temperature: 0.0,
        ..Sampling::default()
    }
}

fn drawn(settings: &Sampling, logits: &[f32]) -> BTreeMap<u32, u32> {
    let mut sampler = Sampler::new(settings.clone(), 11, &[]);
    let mut counts = BTreeMap::new();
    for position in 0..4000 {
        *counts
            .entry(sampler.choose(logits, position, None).unwrap())
            .or_default() += 1;
    }
    counts
}

#[test]
fn greedy_takes_the_lowest_id_of_the_largest_logits() {
    let mut sampler = Sampler::new(greedy(), 0, &[]);
    assert_eq!(sampler.choose(&[1.0, 5.0, 5.0, f32::NAN], 0, None), Some(1));
    assert_eq!(
        sampler.choose(&[f32::NAN, f32::NEG_INFINITY, -3.0], 9, None),
        Some(2)
    );
    assert_eq!(
        sampler.choose(&[f32::NAN, f32::NEG_INFINITY], 0, None),
        None
    );
    assert_eq!(sampler.choose(&[], 0, None), None);
}

#[test]
fn token_frequencies_follow_the_distribution() {
    // The weights are 1 : 2 : 4 : 1, 8 in total.
    let logits = [0.0, 2.0_f32.ln(), 4.0_f32.ln(), 0.0];
    let counts = drawn(&Sampling::default(), &logits);
    for (id, expected) in [(0, 500), (1, 1000), (2, 2000), (3, 500)] {
        assert!(counts[&id].abs_diff(expected) < 120, "{counts:?}");
    }
    // At temperature 0.5 the weights are squared: 1 : 4 : 16 : 1, 22 in total.
    let cold = drawn(
        &Sampling {
            temperature: 0.5,
            ..Sampling::default()
        },
        &logits,
    );
    assert!(cold[&2].abs_diff(4000 * 16 / 22) < 120, "{cold:?}");
}

#[test]
fn filters_keep_the_expected_tokens() {
    let logits = [0.0, 2.0_f32.ln(), 4.0_f32.ln(), 0.0];
    let base = Sampling::default;
    for (settings, expected) in [
        (Sampling { top_k: 1, ..base() }, vec![2]),
        (Sampling { top_k: 3, ..base() }, vec![0, 1, 2]),
        (Sampling { top_k: 9, ..base() }, vec![0, 1, 2, 3]),
        (
            Sampling {
                top_p: 0.0,
                ..base()
            },
            vec![2],
        ),
        (
            Sampling {
                top_p: 0.49,
                ..base()
            },
            vec![2],
        ),
        (
            Sampling {
                top_p: 0.51,
                ..base()
            },
            vec![1, 2],
        ),
        (
            Sampling {
                min_p: 0.49,
                ..base()
            },
            vec![1, 2],
        ),
        (
            Sampling {
                min_p: 0.51,
                ..base()
            },
            vec![2],
        ),
        (
            Sampling {
                min_p: 1.0,
                ..base()
            },
            vec![2],
        ),
        (
            Sampling {
                temperature: 1e-9,
                ..base()
            },
            vec![2],
        ),
        (
            Sampling {
                logit_bias: vec![(0, 100.0), (99, 1.0)],
                ..base()
            },
            vec![0],
        ),
    ] {
        let seen: Vec<u32> = drawn(&settings, &logits).into_keys().collect();
        assert_eq!(seen, expected, "{settings:?}");
    }
}

#[test]
fn penalties_lower_the_logits_of_earlier_tokens() {
    let repeat = Sampling {
        repetition_penalty: 2.0,
        ..greedy()
    };
    // Applies to prompt tokens as well. A negative logit is multiplied.
    assert_eq!(
        Sampler::new(repeat.clone(), 0, &[1]).choose(&[1.0, 1.5], 0, None),
        Some(0)
    );
    assert_eq!(
        Sampler::new(repeat, 0, &[1]).choose(&[-1.5, -1.0], 0, None),
        Some(0)
    );

    let frequency = Sampling {
        frequency_penalty: 0.4,
        ..greedy()
    };
    let mut sampler = Sampler::new(frequency, 0, &[1]);
    assert_eq!(
        sampler.choose(&[1.0, 1.5], 0, None),
        Some(1),
        "prompt tokens do not count"
    );
    sampler.record(1);
    assert_eq!(sampler.choose(&[1.0, 1.5], 1, None), Some(1));
    sampler.record(1);
    assert_eq!(sampler.choose(&[1.0, 1.5], 2, None), Some(0));

    let presence = Sampling {
        presence_penalty: 0.6,
        ..greedy()
    };
    let mut sampler = Sampler::new(presence, 0, &[]);
    sampler.record(1);
    assert_eq!(sampler.choose(&[1.0, 1.5], 1, None), Some(0));
}

/// A reference implementation of the filters and the draw, with everything sorted.
fn reference(logits: &[f32], settings: &Sampling, at: f64) -> Option<u32> {
    let number = |l: &f32| *l > f32::NEG_INFINITY;
    let max = logits.iter().copied().filter(number).reduce(f32::max)?;
    let scale = weight::Scale {
        max,
        temperature: settings.temperature,
    };
    let mut left: Vec<(u32, f32, f64)> = (0..)
        .zip(logits)
        .map(|(id, logit)| (id, *logit, scale.weight(*logit)))
        .filter(|(_, _, weight)| *weight > 0.0)
        .collect();
    let mass = |left: &[(u32, f32, f64)]| left.iter().map(|c| c.2).sum::<f64>();
    if settings.top_k > 0 || settings.top_p < 1.0 {
        left.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    }
    if settings.top_k > 0 {
        left.truncate(settings.top_k as usize);
    }
    if settings.top_p < 1.0 {
        let least = f64::from(settings.top_p) * mass(&left);
        let mut sum = 0.0;
        let below = left.iter().take_while(|c| {
            sum += c.2;
            sum < least
        });
        let kept = below.count() + 1;
        left.truncate(kept);
    }
    left.retain(|c| c.2 >= f64::from(settings.min_p));
    let target = at * mass(&left);
    let mut sum = 0.0;
    let drawn = left.iter().find(|c| {
        sum += c.2;
        sum > target
    });
    drawn.or(left.last()).map(|c| c.0)
}

/// Logits that are close together, far apart, equal, or without a weight.
fn any_logits() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![
        4 => -4.0..4.0_f32,
        4 => -40.0..40.0_f32,
        4 => (-6..6_i8).prop_map(f32::from),
        1 => Just(f32::NEG_INFINITY),
        1 => Just(f32::NAN),
        1 => Just(-0.0_f32),
    ];
    prop::collection::vec(logit, 1..700)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn optimized_sampler_matches_the_reference(
        logits in any_logits(),
        seed: u64,
        temperature in prop_oneof![0.05..3.0_f32, Just(1.0_f32), Just(1e-9_f32), Just(90.0_f32)],
        top_k in prop_oneof![Just(0_u32), 1..800_u32, 1..12_u32],
        top_p in prop_oneof![Just(1.0_f32), 0.0..=1.0_f32, 0.9..=1.0_f32],
        min_p in prop_oneof![Just(0.0_f32), 0.0..=1.0_f32, 0.0..0.1_f32],
    ) {
        let settings = Sampling { temperature, top_k, top_p, min_p, ..Sampling::default() };
        let mut sampler = Sampler::new(settings.clone(), seed, &[]);
        for position in 0..12 {
            let at = random::uniform(seed, 0, position);
            let expected = reference(&logits, &settings, at);
            prop_assert_eq!(sampler.choose(&logits, position, None), expected);
        }
    }

    #[test]
    fn mask_equals_removing_the_logits(
        logits in any_logits(),
        seed: u64,
        allowed in prop::collection::btree_set(0..760_u32, 1..200),
        temperature in prop_oneof![Just(0.0_f32), Just(1.0_f32)],
    ) {
        let settings = Sampling { temperature, top_p: 0.9, ..Sampling::default() };
        let allowed: Vec<u32> = allowed.into_iter().collect();
        let only: Vec<f32> = (0..)
            .zip(&logits)
            .map(|(id, l)| if allowed.contains(&id) { *l } else { f32::NEG_INFINITY })
            .collect();
        let mut sampler = Sampler::new(settings, seed, &[]);
        let expected = sampler.choose(&only, 3, None);
        let mask = TokenMask::of(&allowed);
        prop_assert_eq!(sampler.choose(&logits, 3, Some(&mask)), expected);
        prop_assert!(expected.is_none_or(|id| mask.contains(id)));
    }

    #[test]
    fn token_depends_on_seed_and_position_only(
        logits in prop::collection::vec(-20.0..20.0_f32, 1..50),
        seed: u64,
        position: u32,
        temperature in 0.0..3.0_f32,
        top_k in 0..60_u32,
        top_p in 0.0..=1.0_f32,
        min_p in 0.0..=1.0_f32,
    ) {
        let settings = Sampling { temperature, top_k, top_p, min_p, ..Sampling::default() };
        let mut sampler = Sampler::new(settings, seed, &[]);
        let first = sampler.choose(&logits, position, None).unwrap();
        prop_assert!((first as usize) < logits.len());
        // Sampling at another position in between has no effect.
        sampler.choose(&logits, position.wrapping_add(1), None);
        prop_assert_eq!(sampler.choose(&logits, position, None), Some(first));
    }

    #[test]
    fn handles_arbitrary_logits(bits in prop::collection::vec(any::<u32>(), 0..40), top_p in 0.0..=1.0_f32) {
        let logits: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        let settings = Sampling { top_p, repetition_penalty: 1.3, ..Sampling::default() };
        let chosen = Sampler::new(settings, 1, &[0, 3]).choose(&logits, 0, None);
        let usable = logits.iter().any(|l| *l > f32::NEG_INFINITY);
        if let Some(id) = chosen {
            prop_assert!(usable && (id as usize) < logits.len());
        }
        logprob(&logits, 0, 5);
    }
}
