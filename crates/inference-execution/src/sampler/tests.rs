use std::collections::BTreeMap;

use proptest::prelude::*;
use worker_contract::{InferInput, InferRequest, SamplingValues};

use super::*;

fn greedy() -> SamplerSettings {
    SamplerSettings {
        temperature: 0.0,
        ..SamplerSettings::default()
    }
}

fn drawn(settings: &SamplerSettings, logits: &[f32]) -> BTreeMap<u32, u32> {
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
    let counts = drawn(&SamplerSettings::default(), &logits);
    for (id, expected) in [(0, 500), (1, 1000), (2, 2000), (3, 500)] {
        assert!(counts[&id].abs_diff(expected) < 120, "{counts:?}");
    }
    // At temperature 0.5 the weights are squared: 1 : 4 : 16 : 1, 22 in total.
    let cold = drawn(
        &SamplerSettings {
            temperature: 0.5,
            ..SamplerSettings::default()
        },
        &logits,
    );
    assert!(cold[&2].abs_diff(4000 * 16 / 22) < 120, "{cold:?}");
}

#[test]
fn filters_keep_the_expected_tokens() {
    let logits = [0.0, 2.0_f32.ln(), 4.0_f32.ln(), 0.0];
    let base = SamplerSettings::default;
    for (settings, expected) in [
        (SamplerSettings { top_k: 1, ..base() }, vec![2]),
        (SamplerSettings { top_k: 3, ..base() }, vec![0, 1, 2]),
        (SamplerSettings { top_k: 9, ..base() }, vec![0, 1, 2, 3]),
        (
            SamplerSettings {
                top_p: 0.0,
                ..base()
            },
            vec![2],
        ),
        (
            SamplerSettings {
                top_p: 0.49,
                ..base()
            },
            vec![2],
        ),
        (
            SamplerSettings {
                top_p: 0.51,
                ..base()
            },
            vec![1, 2],
        ),
        (
            SamplerSettings {
                min_p: 0.49,
                ..base()
            },
            vec![1, 2],
        ),
        (
            SamplerSettings {
                min_p: 0.51,
                ..base()
            },
            vec![2],
        ),
        (
            SamplerSettings {
                min_p: 1.0,
                ..base()
            },
            vec![2],
        ),
        (
            SamplerSettings {
                temperature: 1e-9,
                ..base()
            },
            vec![2],
        ),
        (
            SamplerSettings {
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
    let repeat = SamplerSettings {
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

    let frequency = SamplerSettings {
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

    let presence = SamplerSettings {
        presence_penalty: 0.6,
        ..greedy()
    };
    let mut sampler = Sampler::new(presence, 0, &[]);
    sampler.record(1);
    assert_eq!(sampler.choose(&[1.0, 1.5], 1, None), Some(0));
}

/// A reference implementation of the filters and the draw, with everything sorted.
fn reference(logits: &[f32], settings: &SamplerSettings, at: f64) -> Option<u32> {
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
    if settings.typical_p < 1.0 {
        left = reference_typical(left, settings);
    }
    if settings.top_p < 1.0 {
        left.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
        let least = f64::from(settings.top_p) * mass(&left);
        let mut sum = 0.0;
        let below = left.iter().take_while(|c| {
            sum += c.2;
            sum < least
        });
        let kept = below.count() + 1;
        left.truncate(kept);
    }
    let largest = left.iter().map(|c| c.2).fold(0.0, f64::max);
    left.retain(|c| c.2 >= f64::from(settings.min_p) * largest);
    if settings.typical_p < 1.0 {
        left.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    }
    let target = at * mass(&left);
    let mut sum = 0.0;
    let drawn = left.iter().find(|c| {
        sum += c.2;
        sum > target
    });
    drawn.or(left.last()).map(|c| c.0)
}

/// Locally typical sampling by its definition, with probabilities and logarithms.
fn reference_typical(
    left: Vec<(u32, f32, f64)>,
    settings: &SamplerSettings,
) -> Vec<(u32, f32, f64)> {
    let total: f64 = left.iter().map(|c| c.2).sum();
    let max = left.iter().map(|c| c.1).fold(f32::NEG_INFINITY, f32::max);
    let information =
        |c: &(u32, f32, f64)| total.ln() - f64::from((c.1 - max) / settings.temperature);
    let expected: f64 = left.iter().map(|c| c.2 / total * information(c)).sum();
    let mut nearest = left;
    nearest.sort_by_key(|c| ((information(c) - expected).abs() * 1e6).round() as u64);
    let mut sum = 0.0;
    let below = nearest.iter().take_while(|c| {
        sum += c.2;
        sum <= f64::from(settings.typical_p) * total
    });
    let kept = (below.count() + 1).min(nearest.len());
    nearest.truncate(kept);
    nearest
}

#[test]
fn typical_p_keeps_tokens_of_expected_information() {
    // Probabilities 0.4, 0.2 and eight of 0.05: the expected information is 1.89 nats, to which
    // that of the second token (1.61) is closest, then that of the first (0.92), then that of the
    // rare ones (3.0).
    let mut logits = vec![0.4_f32.ln(), 0.2_f32.ln()];
    logits.resize(10, 0.05_f32.ln());
    for (typical_p, top_k, expected) in [
        (0.1, 0, vec![1]),
        (0.22, 0, vec![0, 1]),
        (0.62, 0, vec![0, 1, 2]),
        (0.3, 2, vec![0]),
        (0.0, 0, vec![1]),
    ] {
        let settings = SamplerSettings {
            top_k,
            typical_p,
            ..SamplerSettings::default()
        };
        let seen: Vec<u32> = drawn(&settings, &logits).into_keys().collect();
        assert_eq!(seen, expected, "{settings:?}");
        let at = |p| random::uniform(11, 0, p);
        for position in 0..50 {
            let chosen = Sampler::new(settings.clone(), 11, &[]).choose(&logits, position, None);
            assert_eq!(chosen, reference(&logits, &settings, at(position)));
        }
    }
}

#[test]
fn penalties_end_with_their_window() {
    let settings = SamplerSettings {
        repetition_penalty: 2.0,
        frequency_penalty: 0.5,
        penalty_window: 2,
        ..greedy()
    };
    let logits = [1.0, 1.5, -9.0];
    let mut sampler = Sampler::new(settings.clone(), 0, &[1, 2, 2]);
    assert_eq!(
        sampler.choose(&logits, 0, None),
        Some(1),
        "token 1 of the prompt is outside the window"
    );
    sampler.record(1);
    assert_eq!(sampler.choose(&logits, 1, None), Some(0));
    sampler.record(2);
    assert_eq!(sampler.choose(&logits, 2, None), Some(0));
    sampler.record(2);
    assert_eq!(sampler.choose(&logits, 3, None), Some(1));
    let off = SamplerSettings {
        penalty_window: 0,
        ..settings
    };
    let mut sampler = Sampler::new(off, 0, &[1]);
    sampler.record(1);
    assert_eq!(sampler.choose(&logits, 1, None), Some(1));
}

#[test]
fn request_beats_model_beats_defaults_of_the_api() {
    let values = |temperature, top_k, top_p| SamplingValues {
        temperature,
        top_k,
        top_p,
        ..SamplingValues::default()
    };
    let mut request = InferRequest::new("r".parse().unwrap(), InferInput::Prompt("x".into()));
    request.sampling.values = values(Some(0.3), None, None);
    request.sampling_defaults = values(Some(0.8), Some(40), Some(0.9));
    let model = values(Some(0.7), Some(20), None);
    let settings = SamplerSettings::resolve(&request, &model);
    assert_eq!(settings.used(), values(Some(0.3), Some(20), Some(0.9)));
    request.sampling.values = SamplingValues::default();
    request.sampling_defaults = SamplingValues::default();
    let neutral = SamplerSettings::resolve(&request, &SamplingValues::default());
    assert_eq!(neutral, SamplerSettings::default());
    assert_eq!(neutral.used().to_string(), "temperature=1");
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
        let settings = SamplerSettings { temperature, top_p, top_k, min_p, ..SamplerSettings::default() };
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
        let settings = SamplerSettings { temperature, top_p: 0.9, ..SamplerSettings::default() };
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
        let settings = SamplerSettings { temperature, top_p, top_k, min_p, ..SamplerSettings::default() };
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
        let settings = SamplerSettings { top_p, repetition_penalty: 1.3, ..SamplerSettings::default() };
        let chosen = Sampler::new(settings, 1, &[0, 3]).choose(&logits, 0, None);
        let usable = logits.iter().any(|l| *l > f32::NEG_INFINITY);
        if let Some(id) = chosen {
            prop_assert!(usable && (id as usize) < logits.len());
        }
        logprob(&logits, 0, 5);
    }
}
