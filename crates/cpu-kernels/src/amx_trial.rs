//! Decides at run time whether AMX is used.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use model_format::TensorType;

use crate::{
    isa::Isa,
    memory::WeightMemory,
    packed::PackedMatrix,
    product::{Product, multiply},
    threads::Threads,
};

const ROWS: usize = 256;
const COLUMNS: usize = 1024;
/// Rows of activations; a typical prompt has more.
const N: usize = 64;
const ROUNDS: usize = 3;

impl Isa {
    /// Returns the instruction set to use on this processor: the highest available one, except
    /// that AMX must first prove to be correct and faster than AVX-512.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| match Self::detected() {
            Self::AmxInt8 if !amx_is_worthwhile() => Self::Avx512Vnni,
            detected => detected,
        })
    }
}

/// Multiplies with and without AMX, which takes a millisecond or two. Defects of a processor, an
/// operating system or an emulator must not lead to wrong or slow results.
fn amx_is_worthwhile() -> bool {
    let Ok(trial) = Trial::new() else {
        return false;
    };
    let best = |isa| {
        (0..ROUNDS)
            .map(|_| trial.multiply(isa))
            .min_by_key(|(elapsed, _)| *elapsed)
    };
    match (best(Isa::Avx512Vnni), best(Isa::AmxInt8)) {
        (Some((avx512, expected)), Some((amx, found))) => amx < avx512 && found == expected,
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
        let data: Vec<u8> = pseudo_random()
            .map(|n| (n >> 24) as u8 & 0x3f)
            .take(bytes)
            .collect();
        let memory = WeightMemory::default();
        Ok(Self {
            matrix: PackedMatrix::new(kind, (ROWS, COLUMNS), &data, &memory, &threads)?,
            threads,
            x: pseudo_random()
                .map(|n| (n >> 8) as f32 / 1e6 - 8.0)
                .take(N * COLUMNS)
                .collect(),
        })
    }

    fn multiply(&self, isa: Isa) -> (Duration, Option<Vec<f32>>) {
        let mut out = vec![0.0; N * ROWS];
        let started = Instant::now();
        let product = Product {
            matrix: &self.matrix,
            out: &mut out,
        };
        let result = multiply(isa, &self.threads, &self.x, &mut [product]);
        (started.elapsed(), result.ok().map(|()| out))
    }
}

/// A linear congruential generator (Press et al., Numerical Recipes).
fn pseudo_random() -> impl Iterator<Item = u32> {
    std::iter::successors(Some(1_u32), |n| {
        Some(n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NaN never compares equal, so a trial with NaN sums would always reject AMX.
    #[test]
    fn trial_sums_are_finite_and_distinct() {
        let trial = Trial::new().unwrap();
        let sums = trial.multiply(Isa::Plain).1.unwrap();
        assert!(sums.iter().all(|sum| sum.is_finite()));
        assert!(sums.iter().any(|sum| *sum != sums[0]));
        assert_eq!(trial.multiply(Isa::best()).1, Some(sums));
    }
}
