#![allow(clippy::inline_always)] // Only what is inlined into `Simd::run` is compiled for the instructions.

use crate::Isa;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;

#[cfg(target_arch = "x86_64")]
pub(crate) use amx::allowed as tiles_allowed;
pub(crate) use plain::Plain;

/// Sixteen lanes side by side, one for each of 16 weight rows. A lane never meets another,
/// and every operation gives the same bits whatever carries it out.
pub(crate) trait Simd: Copy + Sync {
    /// 64 bytes, four in a lane; or 16 pairs of 16-bit integers.
    type Bytes: Copy;
    /// 16 integers of 32 bits.
    type Ints: Copy;
    /// 16 floats of 32 bits.
    type Floats: Copy;

    /// What multiplies fewer rows of activations.
    type Few: Simd;

    /// Most rows of activations whose sums the registers hold at once.
    const MOST_ROWS: usize;

    /// The same instructions for fewer rows.
    fn few(self) -> Self::Few;

    /// Runs `op` compiled for these instructions.
    fn run<O: Op>(self, op: O) -> O::Output;

    /// Asks for the line that lies `ahead` bytes after `from`, which need not exist. A processor
    /// that reads weights once, in order, does not look far enough ahead by itself.
    fn prefetch(self, from: &[u8], ahead: usize);
    /// Reads 64 bytes.
    fn bytes(self, from: &[u8; 64]) -> Self::Bytes;
    /// The bits of every byte moved up by `up` and down by `down`, then those of `mask`; bits
    /// may cross into the neighbour, so the mask takes only what a byte had itself.
    fn bits(self, v: Self::Bytes, up: u32, down: u32, mask: u8) -> Self::Bytes;
    /// The bits of both.
    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// 32 bytes without sign as 16-bit integers, two in a lane.
    fn pairs(self, from: &[u8; 32]) -> Self::Bytes;

    /// The same integer in each lane.
    fn ints(self, value: i32) -> Self::Ints;
    /// 16 bytes with a sign.
    fn signed(self, from: &[u8; 16]) -> Self::Ints;
    /// 16 bytes without a sign.
    fn unsigned(self, from: &[u8; 16]) -> Self::Ints;
    /// Adds the product of each lane's four weights, below 128, and the four bytes of `x`,
    /// which are signed and not -128.
    fn dot(self, sum: Self::Ints, weights: Self::Bytes, x: i32) -> Self::Ints;
    /// What sums of [`Simd::dot_offset`] begin with, given the sum of all `x` to come.
    fn start_offset(self, x_sum: i32) -> Self::Ints;
    /// The same as [`Simd::dot`] with weights that are stored 128 too large.
    fn dot_offset(self, sum: Self::Ints, weights: Self::Bytes, x: i32) -> Self::Ints;
    /// The sums of `GROUPS` products for each of 16 rows of activations, which are 8 words
    /// apart in `x`, from the word `part * GROUPS` of each on; the weights may be any bytes.
    /// Only where [`Simd::MOST_ROWS`] is 16.
    #[inline(always)]
    fn dots<const GROUPS: usize>(
        self,
        starts: &[i32; 16],
        weights: [Self::Bytes; GROUPS],
        x: &[i32; 128],
        part: usize,
    ) -> [Self::Ints; 16] {
        let mut sums = [self.ints(0); 16];
        for (row, sum) in sums.iter_mut().enumerate() {
            *sum = self.ints(starts[row]);
            for (group, weights) in weights.into_iter().enumerate() {
                *sum = self.dot(*sum, weights, x[8 * row + part * GROUPS + group]);
            }
        }
        sums
    }
    /// Adds the product of each lane's two 16-bit integers and those of `x`.
    fn dot_pairs(self, sum: Self::Ints, pairs: Self::Bytes, x: i32) -> Self::Ints;
    /// `sum + a * b`.
    fn add_product(self, sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints;

    /// The same float in each lane.
    fn floats(self, value: f32) -> Self::Floats;
    /// Integers rounded to floats.
    fn to_floats(self, v: Self::Ints) -> Self::Floats;
    /// Reads 16 floats of 16 bits.
    fn halves(self, from: &[u8; 32]) -> Self::Floats;
    /// Reads 16 upper halves of 32-bit floats.
    fn upper_halves(self, from: &[u8; 32]) -> Self::Floats;
    /// Reads 16 floats of 32 bits.
    fn singles(self, from: &[u8; 64]) -> Self::Floats;
    /// `a + b`.
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b`.
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + sum`, rounded once.
    fn fma(self, a: Self::Floats, b: Self::Floats, sum: Self::Floats) -> Self::Floats;
    /// The 16 floats.
    fn array(self, v: Self::Floats) -> [f32; 16];
}

/// Work that is compiled once for each kind of instructions. Implementations of `run` are
/// `#[inline(always)]`, and so is what they call with a [`Simd`].
pub(crate) trait Op {
    type Output;
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Work that picks its own [`Op`]s for the instructions that were chosen.
pub(crate) trait WithSimd {
    type Output;
    fn with<S: Simd>(self, s: S) -> Self::Output;
}

/// Calls `work` with the instructions of `isa`, or with plain ones where the processor lacks
/// them.
pub(crate) fn dispatch<W: WithSimd>(isa: Isa, work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if isa == Isa::AmxInt8
            && let Some(simd) = avx512::Avx512::<true>::detect()
        {
            return work.with(simd);
        }
        if isa == Isa::Avx512Vnni
            && let Some(simd) = avx512::Avx512::<false>::detect()
        {
            return work.with(simd);
        }
        if isa == Isa::Avx2
            && let Some(simd) = avx2::Avx2::detect()
        {
            return work.with(simd);
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        if isa == Isa::NeonDot
            && let Some(simd) = neon::Neon::<true>::detect()
        {
            return work.with(simd);
        }
        if isa == Isa::Neon
            && let Some(simd) = neon::Neon::<false>::detect()
        {
            return work.with(simd);
        }
    }
    let _ = isa;
    work.with(Plain::<false>)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Name;

    impl WithSimd for Name {
        type Output = &'static str;

        fn with<S: Simd>(self, _: S) -> &'static str {
            std::any::type_name::<S>()
        }
    }

    #[test]
    fn all_that_is_available_is_used() {
        let mut names: Vec<_> = Isa::available().map(|isa| dispatch(isa, Name)).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Isa::available().count(), "{names:?}");
    }
}
