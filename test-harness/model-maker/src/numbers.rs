/// Deterministic pseudorandom numbers (SplitMix64).
pub(crate) struct Numbers(u64);

impl Numbers {
    /// Seeds a generator for one row of a tensor. Rows are independent, so that they can be
    /// generated in any order and on any thread.
    pub(crate) fn of_row(seed: u64, tensor: &str, row: usize) -> Self {
        // FNV-1a.
        let name = tensor.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3_u64)
        });
        let mut start = Self(seed ^ name);
        let name = start.next();
        let mut start = Self(name.wrapping_add(row as u64));
        Self(start.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Appends `count` uniformly distributed numbers with this mean and standard deviation.
    pub(crate) fn fill(&mut self, out: &mut Vec<f32>, count: usize, mean: f32, deviation: f32) {
        // The standard deviation of the uniform distribution on [-1, 1] is sqrt(1/3).
        let scale = deviation * 3_f32.sqrt() / (1_u64 << 31) as f32;
        for _ in 0..count.div_ceil(2) {
            let both = self.next();
            for half in [both as u32 as i32, (both >> 32) as u32 as i32] {
                out.push(mean + half as f32 * scale);
            }
        }
        out.truncate(out.len() - count % 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seed: u64, tensor: &str, row: usize, count: usize) -> Vec<f32> {
        let mut out = Vec::new();
        Numbers::of_row(seed, tensor, row).fill(&mut out, count, 1.0, 0.5);
        out
    }

    #[test]
    fn rows_have_the_requested_mean_and_deviation() {
        let numbers = row(7, "a", 3, 20_001);
        assert_eq!(numbers.len(), 20_001);
        let mean = numbers.iter().sum::<f32>() / numbers.len() as f32;
        let square = |x: &f32| (x - mean) * (x - mean);
        let variance = numbers.iter().map(square).sum::<f32>() / numbers.len() as f32;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!((variance.sqrt() - 0.5).abs() < 0.01, "{variance}");
    }

    #[test]
    fn rows_depend_on_seed_tensor_and_row() {
        let base = row(0, "a", 0, 4);
        assert_eq!(base, row(0, "a", 0, 4));
        for other in [row(1, "a", 0, 4), row(0, "b", 0, 4), row(0, "a", 1, 4)] {
            assert_ne!(base, other);
        }
    }
}
