//! Whether tiles are used: they have to give the sums of the other kernels, sooner.

use std::time::{Duration, Instant};

use model_format::TensorType;

use crate::{Isa, PackedMatrix, Product, Threads, WeightMemory, multiply};

const ROWS: usize = 256;
const COLUMNS: usize = 1024;
/// Rows of activations; a prompt has more.
const N: usize = 64;
const ROUNDS: usize = 3;

/// Multiplies with both, a millisecond or two: a processor's or a system's own faults, an
/// emulator's too, must not become wrong answers or slow ones.
pub(crate) fn tiles_are_worth_it() -> bool {
    let Ok(trial) = Trial::new() else {
        return false;
    };
    let best = |isa| {
        (0..ROUNDS)
            .map(|_| trial.multiply(isa))
            .min_by_key(|(took, _)| *took)
    };
    match (best(Isa::Avx512Vnni), best(Isa::AmxInt8)) {
        (Some((without, expected)), Some((with, found))) => with < without && found == expected,
        _ => false,
    }
}

struct Trial {
    matrix: PackedMatrix,
    threads: Threads,
    x: Vec<f32>,
}

impl Trial {
    fn new() -> Result<Self, diagnostics::Diagnostic> {
        let threads = Threads::new(1)?;
        let kind = TensorType::Q4K;
        let bytes = ROWS * COLUMNS / kind.block_size() as usize * kind.block_bytes() as usize;
        let data: Vec<u8> = numbers()
            .map(|n| (n >> 24) as u8 & 0x3f)
            .take(bytes)
            .collect();
        let memory = WeightMemory::default();
        Ok(Self {
            matrix: PackedMatrix::new(kind, (ROWS, COLUMNS), &data, &memory, &threads)?,
            threads,
            x: numbers()
                .map(|n| (n >> 8) as f32 / 1e6 - 8.0)
                .take(N * COLUMNS)
                .collect(),
        })
    }

    fn multiply(&self, isa: Isa) -> (Duration, Option<Vec<f32>>) {
        let mut out = vec![0.0; N * ROWS];
        let begun = Instant::now();
        let product = Product {
            matrix: &self.matrix,
            out: &mut out,
        };
        let done = multiply(isa, &self.threads, &self.x, &mut [product]);
        (begun.elapsed(), done.ok().map(|()| out))
    }
}

/// Reproducible numbers, by a linear congruence (Press et al., Numerical Recipes).
fn numbers() -> impl Iterator<Item = u32> {
    std::iter::successors(Some(1_u32), |n| {
        Some(n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums that are no numbers would never be equal, and tiles never used.
    #[test]
    fn the_trial_compares_numbers() {
        let trial = Trial::new().unwrap();
        let (_, expected) = trial.multiply(Isa::Plain);
        let expected = expected.unwrap();
        assert!(expected.iter().all(|sum| sum.is_finite()));
        assert!(expected.iter().any(|sum| *sum != expected[0]));
        for isa in Isa::available() {
            assert_eq!(trial.multiply(isa).1.as_ref(), Some(&expected), "{isa:?}");
        }
    }
}
