use std::array::from_fn;

use half::{bf16, f16};

use super::operations::{Op, Simd};

/// The portable implementation and reference for the others. With `TILES` it uses the panel
/// sizes of AMX, so that tests can check them on any processor.
#[derive(Clone, Copy)]
pub(crate) struct Plain<const TILES: bool>;

impl<const TILES: bool> Simd for Plain<TILES> {
    type Bytes = [u8; 64];
    type Ints = [i32; 16];
    type Floats = [f32; 16];
    type WithoutTiles = Plain<false>;

    const MAX_ROWS: usize = if TILES { 16 } else { 4 };

    #[inline(always)]
    fn without_tiles(self) -> Plain<false> {
        Plain
    }

    #[inline(always)]
    fn run<O: Op>(self, op: O) -> O::Output {
        op.run(self)
    }

    #[inline(always)]
    fn prefetch(self, _: &[u8], _: usize) {}

    #[inline(always)]
    fn load_bytes(self, from: &[u8; 64]) -> [u8; 64] {
        *from
    }

    #[inline(always)]
    fn shift_and_mask(self, v: [u8; 64], up: u32, down: u32, mask: u8) -> [u8; 64] {
        v.map(|byte| (byte << up >> down) & mask)
    }

    #[inline(always)]
    fn or(self, a: [u8; 64], b: [u8; 64]) -> [u8; 64] {
        from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    fn load_u8_as_i16(self, from: &[u8; 32]) -> [u8; 64] {
        from_fn(|i| if i % 2 == 0 { from[i / 2] } else { 0 })
    }

    #[inline(always)]
    fn splat_i32(self, value: i32) -> [i32; 16] {
        [value; 16]
    }

    #[inline(always)]
    fn load_i8_as_i32(self, from: &[u8; 16]) -> [i32; 16] {
        from.map(|byte| i32::from(byte.cast_signed()))
    }

    #[inline(always)]
    fn load_u8_as_i32(self, from: &[u8; 16]) -> [i32; 16] {
        from.map(i32::from)
    }

    #[inline(always)]
    fn dot(self, sum: [i32; 16], weights: [u8; 64], x: i32) -> [i32; 16] {
        let x = x.to_le_bytes().map(|byte| i32::from(byte.cast_signed()));
        from_fn(|lane| {
            (0..4).fold(sum[lane], |sum, i| {
                sum.wrapping_add(i32::from(weights[4 * lane + i]).wrapping_mul(x[i]))
            })
        })
    }

    #[inline(always)]
    fn dot_offset_start(self, x_sum: i32) -> [i32; 16] {
        [x_sum.wrapping_mul(-128); 16]
    }

    #[inline(always)]
    fn dot_offset(self, sum: [i32; 16], weights: [u8; 64], x: i32) -> [i32; 16] {
        self.dot(sum, weights, x)
    }

    #[inline(always)]
    fn dot_i16(self, sum: [i32; 16], pairs: [u8; 64], x: i32) -> [i32; 16] {
        let low = i32::from(x as i16);
        let high = x >> 16;
        from_fn(|lane| {
            let pair = |i| i32::from(i16::from_le_bytes([pairs[i], pairs[i + 1]]));
            let products = pair(4 * lane)
                .wrapping_mul(low)
                .wrapping_add(pair(4 * lane + 2).wrapping_mul(high));
            sum[lane].wrapping_add(products)
        })
    }

    #[inline(always)]
    fn mul_add_i32(self, sum: [i32; 16], a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        from_fn(|i| sum[i].wrapping_add(a[i].wrapping_mul(b[i])))
    }

    #[inline(always)]
    fn splat_f32(self, value: f32) -> [f32; 16] {
        [value; 16]
    }

    #[inline(always)]
    fn to_f32(self, v: [i32; 16]) -> [f32; 16] {
        v.map(|v| v as f32)
    }

    #[inline(always)]
    fn load_f16(self, from: &[u8; 32]) -> [f32; 16] {
        from_fn(|i| f16::from_le_bytes([from[2 * i], from[2 * i + 1]]).to_f32())
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u8; 32]) -> [f32; 16] {
        from_fn(|i| bf16::from_le_bytes([from[2 * i], from[2 * i + 1]]).to_f32())
    }

    #[inline(always)]
    fn load_f32(self, from: &[u8; 64]) -> [f32; 16] {
        let (floats, _) = from.as_chunks::<4>();
        from_fn(|i| f32::from_le_bytes(floats[i]))
    }

    #[inline(always)]
    fn add(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn mul(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn fma(self, a: [f32; 16], b: [f32; 16], sum: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i].mul_add(b[i], sum[i]))
    }

    #[inline(always)]
    fn to_array(self, v: [f32; 16]) -> [f32; 16] {
        v
    }
}
