/// Operations on 16 lanes, one for each of 16 weight rows. Lanes never interact, and every
/// operation produces the same bits in all implementations.
pub(crate) trait Simd: Copy + Sync {
    /// 64 bytes, four per lane; or 16 pairs of 16-bit integers.
    type Bytes: Copy;
    /// 16 `i32`.
    type Ints: Copy;
    /// 16 `f32`.
    type Floats: Copy;

    /// The implementation for panels of fewer than 16 rows, which AMX tiles do not help.
    type WithoutTiles: Simd;

    /// Maximum number of activation rows whose sums fit in the registers.
    const MAX_ROWS: usize;

    fn without_tiles(self) -> Self::WithoutTiles;

    /// Runs `op` compiled for this instruction set.
    fn run<O: Op>(self, op: O) -> O::Output;

    /// Prefetches the cache line `ahead` bytes after `from`, which may be outside any allocation.
    /// Weights are read once, in order, and the hardware prefetcher does not look far enough ahead.
    fn prefetch(self, from: &[u8], ahead: usize);
    fn load_bytes(self, from: &[u8; 64]) -> Self::Bytes;
    /// Shifts every byte left by `up`, then right by `down`, and masks it with `mask`. Bits may
    /// cross into neighboring bytes, so the mask must select only bits of the byte itself.
    fn shift_and_mask(self, v: Self::Bytes, up: u32, down: u32, mask: u8) -> Self::Bytes;
    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Loads 32 unsigned bytes as 16-bit integers, two per lane.
    fn load_u8_as_i16(self, from: &[u8; 32]) -> Self::Bytes;

    fn splat_i32(self, value: i32) -> Self::Ints;
    fn load_i8_as_i32(self, from: &[u8; 16]) -> Self::Ints;
    fn load_u8_as_i32(self, from: &[u8; 16]) -> Self::Ints;
    /// Adds to each lane the dot product of its four weights, each below 128, with the four
    /// signed bytes of `x`, none of which is -128.
    fn dot(self, sum: Self::Ints, weights: Self::Bytes, x: i32) -> Self::Ints;
    /// Returns the initial value of sums that [`Simd::dot_offset`] adds to; `x_sum` is the sum of
    /// all activations.
    fn dot_offset_start(self, x_sum: i32) -> Self::Ints;
    /// Same as [`Simd::dot`], for weights with a zero point of 128.
    fn dot_offset(self, sum: Self::Ints, weights: Self::Bytes, x: i32) -> Self::Ints;
    /// Returns the sums of `GROUPS` dot products for each of 16 activation rows. The rows are 8
    /// words apart in `x` and start at word `part * GROUPS`; weights may be any bytes. Only for
    /// implementations whose [`Simd::MAX_ROWS`] is 16.
    #[inline(always)]
    fn dot_panel<const GROUPS: usize>(
        self,
        starts: &[i32; 16],
        weights: [Self::Bytes; GROUPS],
        x: &[i32; 128],
        part: usize,
    ) -> [Self::Ints; 16] {
        let mut sums = [self.splat_i32(0); 16];
        for (row, sum) in sums.iter_mut().enumerate() {
            *sum = self.splat_i32(starts[row]);
            for (group, weights) in weights.into_iter().enumerate() {
                *sum = self.dot(*sum, weights, x[8 * row + part * GROUPS + group]);
            }
        }
        sums
    }
    /// Adds to each lane the dot product of its two 16-bit integers with those of `x`.
    fn dot_i16(self, sum: Self::Ints, pairs: Self::Bytes, x: i32) -> Self::Ints;
    /// Returns `sum + a * b`.
    fn mul_add_i32(self, sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints;

    fn splat_f32(self, value: f32) -> Self::Floats;
    /// Converts integers to floats, rounding to nearest.
    fn to_f32(self, v: Self::Ints) -> Self::Floats;
    fn load_f16(self, from: &[u8; 32]) -> Self::Floats;
    fn load_bf16(self, from: &[u8; 32]) -> Self::Floats;
    fn load_f32(self, from: &[u8; 64]) -> Self::Floats;
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Returns `a * b + sum`, rounded once.
    fn fma(self, a: Self::Floats, b: Self::Floats, sum: Self::Floats) -> Self::Floats;
    fn to_array(self, v: Self::Floats) -> [f32; 16];
}

/// Work that is compiled once per instruction set. Implementations of `run`, and everything they
/// call with a [`Simd`], must be `#[inline(always)]`.
pub(crate) trait Op {
    type Output;
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Work that runs its own [`Op`]s on the selected implementation.
pub(crate) trait WithSimd {
    type Output;
    fn with<S: Simd>(self, s: S) -> Self::Output;
}
