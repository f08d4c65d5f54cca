use std::f32::consts::TAU;

use candle_core::{Device, Result, Tensor};
use diagnostics::{Code, Diagnostic};
use model_format::{ModelHeader, RopeScaling};

use crate::architecture::unsupported;

/// Cosine and sine of every angle, `[positions, head_dim / 2]` each.
pub(crate) struct Rope {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// Tables for the first `positions` positions.
    pub(crate) fn new(frequencies: &[f32], positions: u32, device: &Device) -> Result<Self> {
        let angles: Vec<f32> = (0..positions)
            .flat_map(|position| frequencies.iter().map(move |f| position as f32 * f))
            .collect();
        let shape = (positions as usize, frequencies.len());
        let table = |f: fn(f32) -> f32| {
            let values = angles.iter().copied().map(f).collect();
            Tensor::from_vec(values, shape, device)
        };
        Ok(Self {
            cos: table(f32::cos)?,
            sin: table(f32::sin)?,
        })
    }

    /// The angles of rows at these positions.
    pub(crate) fn at(&self, positions: &Tensor) -> Result<Angles> {
        Ok(Angles {
            cos: self.cos.index_select(positions, 0)?.unsqueeze(1)?,
            sin: self.sin.index_select(positions, 0)?.unsqueeze(1)?,
        })
    }
}

/// Cosine and sine of the rows of a step, `[rows, 1, head_dim / 2]` each.
pub(crate) struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Angles {
    /// Rotates each head of `x` of `[rows, heads, head_dim]`, first half against second.
    pub(crate) fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let half = x.dim(2)? / 2;
        let first = x.narrow(2, 0, half)?;
        let second = x.narrow(2, half, half)?;
        let turned_first = (first.broadcast_mul(&self.cos)? - second.broadcast_mul(&self.sin)?)?;
        let turned_second = (second.broadcast_mul(&self.cos)? + first.broadcast_mul(&self.sin)?)?;
        Tensor::cat(&[turned_first, turned_second], 2)
    }
}

/// The angle between neighbouring positions, for each pair of numbers of a head.
/// `divisors` are those that the file itself carries.
pub(crate) fn frequencies(
    header: &ModelHeader,
    divisors: Option<&[f32]>,
) -> std::result::Result<Vec<f32>, Diagnostic> {
    if header.rope_dimensions != header.head_dim {
        return Err(unsupported(format!(
            "rotation of {} of {} numbers of a head",
            header.rope_dimensions, header.head_dim
        )));
    }
    let pairs = header.head_dim / 2;
    let mut out: Vec<f32> = (0..pairs)
        .map(|pair| header.rope_theta.powf(-(pair as f32) / pairs as f32))
        .collect();
    match &header.rope_scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => out.iter_mut().for_each(|f| *f /= factor),
        RopeScaling::Llama3 {
            factor,
            low_frequency_factor,
            high_frequency_factor,
            original_context_length,
        } => {
            let trained = *original_context_length as f32;
            for f in &mut out {
                let turns = trained * *f / TAU;
                let kept =
                    (turns - low_frequency_factor) / (high_frequency_factor - low_frequency_factor);
                let kept = kept.clamp(0.0, 1.0);
                *f = *f / factor * (1.0 - kept) + *f * kept;
            }
        }
        RopeScaling::Other(name) => {
            return Err(unsupported(format!(
                "rotary scaling `{}`",
                diagnostics::excerpt(name, 40)
            )));
        }
    }
    if let Some(divisors) = divisors {
        if divisors.len() != out.len() {
            return Err(damaged(format!(
                "{} rotary factors for {pairs} pairs",
                divisors.len()
            )));
        }
        out.iter_mut().zip(divisors).for_each(|(f, d)| *f /= d);
    }
    if out.iter().any(|f| !f.is_finite()) {
        return Err(damaged("its rotary frequencies are not finite"));
    }
    Ok(out)
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

    #[test]
    fn llama3_slows_only_low_frequencies() {
        let plain = frequencies(&header(RopeScaling::None), None).unwrap();
        let scaled = frequencies(
            &header(RopeScaling::Llama3 {
                factor: 8.0,
                low_frequency_factor: 1.0,
                high_frequency_factor: 4.0,
                original_context_length: 8192,
            }),
            None,
        )
        .unwrap();
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
        let divided = frequencies(&header(RopeScaling::None), Some(&divisors)).unwrap();
        for (a, b) in divided.iter().zip(&scaled) {
            assert!((a / b - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn what_would_be_computed_wrongly_is_refused() {
        let other = header(RopeScaling::Other("yarn".into()));
        let error = frequencies(&other, None).unwrap_err();
        assert_eq!(error.code, Code::UnsupportedModel);
        assert!(error.message.contains("yarn"), "{error}");
        let partial = ModelHeader {
            rope_dimensions: 4,
            ..header(RopeScaling::None)
        };
        assert_eq!(
            frequencies(&partial, None).unwrap_err().code,
            Code::UnsupportedModel
        );
        let zero = Some([1.0, 0.0, 1.0, 1.0].as_slice());
        let error = frequencies(&header(RopeScaling::None), zero).unwrap_err();
        assert_eq!(error.code, Code::InvalidModelFile);
    }
}
