use std::f32::consts::TAU;

use diagnostics::{Diagnostic, excerpt};
use model_format::{ModelHeader, RopeScaling};

use crate::errors;

/// The rotary position embedding of a model.
#[derive(Debug)]
pub(crate) struct Rotation {
    /// Angle per position of each pair of elements of a head.
    pub(crate) frequencies: Vec<f32>,
    /// Factor that rotated elements are multiplied by.
    pub(crate) scale: f32,
}

/// Divisors of the rotary frequencies, from tensors of the model file.
#[derive(Debug, Default)]
pub(crate) struct RopeFactors {
    /// Divisors for any context length.
    pub(crate) any: Option<Vec<f32>>,
    /// Divisors for contexts up to the trained length.
    pub(crate) short: Option<Vec<f32>>,
    /// Divisors for longer contexts.
    pub(crate) long: Option<Vec<f32>>,
}

impl Rotation {
    /// Returns the rotation for sequences of up to `context_length` tokens.
    pub(crate) fn new(
        header: &ModelHeader,
        factors: &RopeFactors,
        context_length: u32,
    ) -> Result<Self, Diagnostic> {
        let mut frequencies = frequencies(header, header.rope_theta);
        let scale = apply_scaling(&mut frequencies, header)?;
        if let RopeScaling::LongRope {
            original_context_length,
            factors: in_header,
            ..
        } = &header.rope_scaling
        {
            // All keys must use the same frequencies, so the maximum length decides, not the
            // length of each sequence.
            let long = context_length > *original_context_length;
            let divisors = match (in_header, long) {
                (Some(in_header), false) => Some(&in_header.short),
                (Some(in_header), true) => Some(&in_header.long),
                (None, false) => factors.short.as_ref(),
                (None, true) => factors.long.as_ref(),
            };
            let divisors = divisors.ok_or_else(|| errors::invalid_rope("no rotary factors"))?;
            divide(&mut frequencies, divisors)?;
        }
        if let Some(divisors) = &factors.any {
            divide(&mut frequencies, divisors)?;
        }
        Self { frequencies, scale }.checked()
    }

    /// Returns the rotation of layers with a sliding window, if it differs from the global one.
    pub(crate) fn local(header: &ModelHeader) -> Result<Option<Self>, Diagnostic> {
        let local = header.rope_local_theta.map(|theta| Self {
            frequencies: frequencies(header, theta),
            scale: 1.0,
        });
        local.map(Self::checked).transpose()
    }

    /// Writes the scaled cosine and sine of every angle, each of shape `[positions, frequencies]`.
    pub(crate) fn angles(&self, positions: &[u32], cos: &mut [f32], sin: &mut [f32]) {
        let angles = positions
            .iter()
            .flat_map(|position| self.frequencies.iter().map(|f| *position as f32 * f));
        for (angle, (cos, sin)) in angles.zip(cos.iter_mut().zip(sin)) {
            *cos = angle.cos() * self.scale;
            *sin = angle.sin() * self.scale;
        }
    }

    fn checked(self) -> Result<Self, Diagnostic> {
        if self.frequencies.iter().any(|f| !f.is_finite()) || !self.scale.is_finite() {
            return Err(errors::invalid_rope("frequencies are not finite"));
        }
        Ok(self)
    }
}

fn frequencies(header: &ModelHeader, theta: f32) -> Vec<f32> {
    let pairs = header.rope_dimensions / 2;
    (0..pairs)
        .map(|pair| theta.powf(-(pair as f32) / pairs as f32))
        .collect()
}

fn divide(frequencies: &mut [f32], divisors: &[f32]) -> Result<(), Diagnostic> {
    if divisors.len() != frequencies.len() {
        return Err(errors::invalid_rope(format!(
            "{} rotary factors for {} pairs",
            divisors.len(),
            frequencies.len()
        )));
    }
    let pairs = frequencies.iter_mut().zip(divisors);
    pairs.for_each(|(f, d)| *f /= d);
    Ok(())
}

/// Applies the scaling of the header to the frequencies; returns the scale of the rotation.
fn apply_scaling(frequencies: &mut [f32], header: &ModelHeader) -> Result<f32, Diagnostic> {
    match &header.rope_scaling {
        RopeScaling::None => Ok(1.0),
        RopeScaling::Linear { factor } => {
            for f in frequencies {
                *f /= factor;
            }
            Ok(1.0)
        }
        RopeScaling::Llama3 {
            factor,
            low_frequency_factor: low,
            high_frequency_factor: high,
            original_context_length,
        } => {
            let trained = *original_context_length as f32;
            for f in frequencies {
                let kept = (trained * *f / TAU - low) / (high - low);
                *f = interpolated(*f, *factor, kept);
            }
            Ok(1.0)
        }
        RopeScaling::Yarn {
            factor,
            original_context_length,
            beta_fast,
            beta_slow,
            whole_bounds,
            attention_factor,
        } => {
            let pairs = frequencies.len() as f32;
            let trained = *original_context_length as f32;
            // The pair that completes the given number of turns over the trained context.
            let pair = |turns: f32| pairs * (trained / (turns * TAU)).ln() / header.rope_theta.ln();
            let (mut first, mut last) = (pair(*beta_fast), pair(*beta_slow));
            if *whole_bounds {
                (first, last) = (first.floor(), last.ceil());
            }
            if !(first.is_finite() && last.is_finite() && *factor > 0.0) {
                return Err(errors::invalid_rope(format!(
                    "YaRN scaling by {factor} from {trained} tokens is invalid"
                )));
            }
            let (first, last) = (first.max(0.0), last.min(2.0 * pairs - 1.0));
            let width = if first == last { 0.001 } else { last - first };
            for (index, f) in frequencies.iter_mut().enumerate() {
                *f = interpolated(*f, *factor, 1.0 - (index as f32 - first) / width);
            }
            Ok(*attention_factor)
        }
        RopeScaling::LongRope {
            attention_factor, ..
        } => Ok(*attention_factor),
        RopeScaling::Other(name) => Err(errors::unsupported(format!(
            "rotary scaling `{}`",
            excerpt(name, 40)
        ))),
    }
}

/// Interpolates between `frequency / factor` at `kept` 0 and `frequency` at `kept` 1.
fn interpolated(frequency: f32, factor: f32, kept: f32) -> f32 {
    let kept = kept.clamp(0.0, 1.0);
    frequency / factor * (1.0 - kept) + frequency * kept
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;
    use model_format::LongRopeFactors;

    use super::*;

    fn header(scaling: RopeScaling) -> ModelHeader {
        ModelHeader {
            head_dim: 8,
            rope_dimensions: 8,
            rope_theta: 500_000.0,
            rope_scaling: scaling,
            ..crate::tiny_models::llama_header()
        }
    }

    fn rotation(header: &ModelHeader, divisors: Option<&[f32]>) -> Result<Rotation, Diagnostic> {
        let factors = RopeFactors {
            any: divisors.map(<[f32]>::to_vec),
            ..RopeFactors::default()
        };
        Rotation::new(header, &factors, header.context_length)
    }

    fn frequencies(scaling: RopeScaling) -> Vec<f32> {
        rotation(&header(scaling), None).unwrap().frequencies
    }

    #[test]
    fn llama3_scaling_divides_only_low_frequencies() {
        let plain = frequencies(RopeScaling::None);
        let scaled = frequencies(RopeScaling::Llama3 {
            factor: 8.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_context_length: 8192,
        });
        // The wavelengths are 6.3, 167, 4443 and 118 000 positions.
        assert_eq!(scaled[..2], plain[..2]);
        // Between the bounds: 8192 / 4443 turns are 0.28 of the way from 1 to 4 turns.
        let kept = (8192.0 * plain[2] / TAU - 1.0) / 3.0;
        assert!((0.27..0.29).contains(&kept), "{kept}");
        let expected = plain[2] * (kept + (1.0 - kept) / 8.0);
        assert!((scaled[2] / expected - 1.0).abs() < 1e-5);
        assert!((scaled[3] * 8.0 / plain[3] - 1.0).abs() < 1e-6);
        // The factors of a GGUF file have the same effect.
        let divisors: Vec<f32> = plain.iter().zip(&scaled).map(|(p, s)| p / s).collect();
        let divided = rotation(&header(RopeScaling::None), Some(&divisors)).unwrap();
        for (a, b) in divided.frequencies.iter().zip(&scaled) {
            assert!((a / b - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn yarn_interpolates_between_its_bounds() {
        let yarn = |whole_bounds| ModelHeader {
            head_dim: 16,
            rope_dimensions: 16,
            rope_theta: 10_000.0,
            ..header(RopeScaling::Yarn {
                factor: 4.0,
                original_context_length: 2048,
                beta_fast: 32.0,
                beta_slow: 1.0,
                whole_bounds,
                attention_factor: 1.25,
            })
        };
        // Pair 2.016 turns 32 times over 2048 positions, pair 5.0263 once.
        for (whole_bounds, ratios) in [
            (true, [1.0, 1.0, 1.0, 0.8125, 0.625, 0.4375, 0.25, 0.25]),
            (
                false,
                [1.0, 1.0, 1.0, 0.754_842, 0.505_697, 0.256_553, 0.25, 0.25],
            ),
        ] {
            let rotation = rotation(&yarn(whole_bounds), None).unwrap();
            assert_eq!(rotation.scale, 1.25);
            for (index, (f, ratio)) in (0..).zip(rotation.frequencies.iter().zip(ratios)) {
                let plain = 10_000_f32.powf(-(index as f32) / 8.0);
                assert!(
                    (f / plain / ratio - 1.0).abs() < 1e-4,
                    "{index}: {}",
                    f / plain
                );
            }
        }
        let unbounded = ModelHeader {
            rope_theta: 1.0,
            ..yarn(true)
        };
        let error = rotation(&unbounded, None).unwrap_err();
        assert_eq!(error.code, Code::InvalidModelFile);
    }

    #[test]
    fn rejects_unsupported_scaling_and_infinite_frequencies() {
        let other = header(RopeScaling::Other("dynamic".into()));
        let error = rotation(&other, None).unwrap_err();
        assert_eq!(error.code, Code::UnsupportedModel);
        assert!(error.message.contains("dynamic"), "{error}");
        let zero = Some([1.0, 0.0, 1.0, 1.0].as_slice());
        let error = rotation(&header(RopeScaling::None), zero).unwrap_err();
        assert_eq!(error.code, Code::InvalidModelFile);
    }

    #[test]
    fn context_length_selects_short_or_long_factors() {
        let (short, long) = (vec![1.0, 2.0, 4.0, 8.0], vec![10.0, 20.0, 40.0, 80.0]);
        let model = |factors| {
            header(RopeScaling::LongRope {
                original_context_length: 32,
                attention_factor: 1.5,
                factors,
            })
        };
        let in_header = model(Some(LongRopeFactors {
            short: short.clone(),
            long: long.clone(),
        }));
        let none = RopeFactors::default();
        let in_tensors = RopeFactors {
            short: Some(short.clone()),
            long: Some(long.clone()),
            any: None,
        };
        let plain = frequencies(RopeScaling::None);
        for (context, divisors) in [(32, &short), (33, &long)] {
            let expected: Vec<f32> = plain.iter().zip(divisors).map(|(f, d)| f / d).collect();
            for (header, factors) in [(&in_header, &none), (&model(None), &in_tensors)] {
                let rotation = Rotation::new(header, factors, context).unwrap();
                assert_eq!(rotation.frequencies, expected);
                assert_eq!(rotation.scale, 1.5);
            }
        }
        let without = Rotation::new(&model(None), &none, 32).unwrap_err();
        assert_eq!(without.code, Code::InvalidModelFile);
        let too_few = RopeFactors {
            short: Some(vec![1.0]),
            ..in_tensors
        };
        let error = Rotation::new(&model(None), &too_few, 32).unwrap_err();
        assert!(error.message.contains("1 rotary factors for 4"), "{error}");
    }
}
