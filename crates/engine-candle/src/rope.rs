use std::f32::consts::TAU;

use diagnostics::{Code, Diagnostic};
use model_format::{ModelHeader, RopeScaling};

use crate::architecture::unsupported;

/// How the heads of a model turn with the position.
#[derive(Debug)]
pub(crate) struct Rotation {
    /// The angle between neighbouring positions, for each pair of numbers of a head.
    pub(crate) frequencies: Vec<f32>,
    /// What rotated numbers are multiplied with.
    pub(crate) scale: f32,
}

/// Divisors of the rotary frequencies that a file holds as tensors.
#[derive(Debug, Default)]
pub(crate) struct RopeFactors {
    /// For all contexts.
    pub(crate) any: Option<Vec<f32>>,
    /// For contexts up to the trained one.
    pub(crate) short: Option<Vec<f32>>,
    /// For longer contexts.
    pub(crate) long: Option<Vec<f32>>,
}

impl Rotation {
    /// What the header says for contexts of that length; `factors` are those that the file
    /// itself carries.
    pub(crate) fn new(
        header: &ModelHeader,
        factors: &RopeFactors,
        context_length: u32,
    ) -> Result<Self, Diagnostic> {
        let mut frequencies = frequencies(header, header.rope_theta);
        let scale = stretch(&mut frequencies, header)?;
        if let RopeScaling::LongRope {
            original_context_length,
            factors: stated,
            ..
        } = &header.rope_scaling
        {
            // Keys of all positions must turn alike, so the length that sequences may reach
            // decides, not the one that each has.
            let long = context_length > *original_context_length;
            let divisors = match (stated, long) {
                (Some(stated), false) => Some(&stated.short),
                (Some(stated), true) => Some(&stated.long),
                (None, false) => factors.short.as_ref(),
                (None, true) => factors.long.as_ref(),
            };
            let divisors = divisors.ok_or_else(|| damaged("it has no rotary factors"))?;
            divide(&mut frequencies, divisors)?;
        }
        if let Some(divisors) = &factors.any {
            divide(&mut frequencies, divisors)?;
        }
        Self { frequencies, scale }.checked()
    }

    /// The rotation of the layers with a window, where it is another one.
    pub(crate) fn local(header: &ModelHeader) -> Result<Option<Self>, Diagnostic> {
        let local = header.rope_local_theta.map(|theta| Self {
            frequencies: frequencies(header, theta),
            scale: 1.0,
        });
        local.map(Self::checked).transpose()
    }

    /// Writes cosine and sine of every angle at the positions, `[positions, frequencies]` each.
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
            return Err(damaged("its rotary frequencies are not finite"));
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
        return Err(damaged(format!(
            "{} rotary factors for {} pairs",
            divisors.len(),
            frequencies.len()
        )));
    }
    let pairs = frequencies.iter_mut().zip(divisors);
    pairs.for_each(|(f, d)| *f /= d);
    Ok(())
}

/// Changes the frequencies as the header's scaling says; returns the scale of the rotation.
fn stretch(frequencies: &mut [f32], header: &ModelHeader) -> Result<f32, Diagnostic> {
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
                *f = slowed(*f, *factor, kept);
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
            // The pair that turns so often over the context of the training.
            let pair = |turns: f32| pairs * (trained / (turns * TAU)).ln() / header.rope_theta.ln();
            let (mut first, mut last) = (pair(*beta_fast), pair(*beta_slow));
            if *whole_bounds {
                (first, last) = (first.floor(), last.ceil());
            }
            if !(first.is_finite() && last.is_finite() && *factor > 0.0) {
                return Err(damaged(format!(
                    "its YaRN scaling by {factor} from {trained} tokens means nothing"
                )));
            }
            let (first, last) = (first.max(0.0), last.min(2.0 * pairs - 1.0));
            let width = if first == last { 0.001 } else { last - first };
            for (index, f) in frequencies.iter_mut().enumerate() {
                *f = slowed(*f, *factor, 1.0 - (index as f32 - first) / width);
            }
            Ok(*attention_factor)
        }
        RopeScaling::LongRope {
            attention_factor, ..
        } => Ok(*attention_factor),
        RopeScaling::Other(name) => Err(unsupported(format!(
            "rotary scaling `{}`",
            diagnostics::excerpt(name, 40)
        ))),
    }
}

/// A frequency of which a part is `kept` and the rest divided.
fn slowed(frequency: f32, factor: f32, kept: f32) -> f32 {
    let kept = kept.clamp(0.0, 1.0);
    frequency / factor * (1.0 - kept) + frequency * kept
}

fn damaged(message: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!("the model cannot be used: {message}"),
    )
    .hint("the file is damaged or was made by a faulty converter")
}

#[cfg(test)]
mod tests {
    use model_format::LongRopeFactors;

    use super::*;

    fn header(scaling: RopeScaling) -> ModelHeader {
        ModelHeader {
            head_dim: 8,
            rope_dimensions: 8,
            rope_theta: 500_000.0,
            rope_scaling: scaling,
            ..crate::self_test::tiny_header()
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
    fn llama3_slows_only_low_frequencies() {
        let plain = frequencies(RopeScaling::None);
        let scaled = frequencies(RopeScaling::Llama3 {
            factor: 8.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_context_length: 8192,
        });
        // Wavelengths are 6.3, 167, 4443 and 118 000 positions.
        assert_eq!(scaled[..2], plain[..2]);
        // Between the bounds: 8192 / 4443 turns are 0.28 of the way from 1 to 4.
        let kept = (8192.0 * plain[2] / TAU - 1.0) / 3.0;
        assert!((0.27..0.29).contains(&kept), "{kept}");
        let expected = plain[2] * (kept + (1.0 - kept) / 8.0);
        assert!((scaled[2] / expected - 1.0).abs() < 1e-5);
        assert!((scaled[3] * 8.0 / plain[3] - 1.0).abs() < 1e-6);
        // The same as the factors in a GGUF file.
        let divisors: Vec<f32> = plain.iter().zip(&scaled).map(|(p, s)| p / s).collect();
        let divided = rotation(&header(RopeScaling::None), Some(&divisors)).unwrap();
        for (a, b) in divided.frequencies.iter().zip(&scaled) {
            assert!((a / b - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn yarn_mixes_between_its_bounds() {
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
        let senseless = ModelHeader {
            rope_theta: 1.0,
            ..yarn(true)
        };
        let error = rotation(&senseless, None).unwrap_err();
        assert_eq!(error.code, Code::InvalidModelFile);
    }

    #[test]
    fn what_would_be_computed_wrongly_is_refused() {
        let other = header(RopeScaling::Other("dynamic".into()));
        let error = rotation(&other, None).unwrap_err();
        assert_eq!(error.code, Code::UnsupportedModel);
        assert!(error.message.contains("dynamic"), "{error}");
        let zero = Some([1.0, 0.0, 1.0, 1.0].as_slice());
        let error = rotation(&header(RopeScaling::None), zero).unwrap_err();
        assert_eq!(error.code, Code::InvalidModelFile);
    }

    #[test]
    fn the_context_decides_between_short_and_long_factors() {
        let (short, long) = (vec![1.0, 2.0, 4.0, 8.0], vec![10.0, 20.0, 40.0, 80.0]);
        let model = |factors| {
            header(RopeScaling::LongRope {
                original_context_length: 32,
                attention_factor: 1.5,
                factors,
            })
        };
        let of_config = model(Some(LongRopeFactors {
            short: short.clone(),
            long: long.clone(),
        }));
        let none = RopeFactors::default();
        let of_file = RopeFactors {
            short: Some(short.clone()),
            long: Some(long.clone()),
            any: None,
        };
        let plain = frequencies(RopeScaling::None);
        for (context, divisors) in [(32, &short), (33, &long)] {
            let expected: Vec<f32> = plain.iter().zip(divisors).map(|(f, d)| f / d).collect();
            for (header, factors) in [(&of_config, &none), (&model(None), &of_file)] {
                let rotation = Rotation::new(header, factors, context).unwrap();
                assert_eq!(rotation.frequencies, expected);
                assert_eq!(rotation.scale, 1.5);
            }
        }
        let without = Rotation::new(&model(None), &none, 32).unwrap_err();
        assert_eq!(without.code, Code::InvalidModelFile);
        let few = RopeFactors {
            short: Some(vec![1.0]),
            ..of_file
        };
        let error = Rotation::new(&model(None), &few, 32).unwrap_err();
        assert!(error.message.contains("1 rotary factors for 4"), "{error}");
    }
}
