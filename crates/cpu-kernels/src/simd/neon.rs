#![allow(unsafe_code)]

use std::arch::{
    aarch64::{
        float32x4_t, int8x16_t, int16x8_t, int32x4_t, uint8x16_t, vaddq_f32, vaddq_s32, vandq_u8,
        vcvt_f32_f16, vcvtq_f32_s32, vdupq_n_f32, vdupq_n_s8, vdupq_n_s32, vdupq_n_u8, veorq_u8,
        vfmaq_f32, vget_low_s8, vget_low_s16, vget_low_u8, vld1_u8, vld1_u16, vld1q_f32, vld1q_s8,
        vld1q_u8, vmlaq_s32, vmovl_high_s8, vmovl_high_s16, vmovl_high_u8, vmovl_s8, vmovl_s16,
        vmovl_u8, vmovl_u16, vmull_high_s8, vmull_high_s16, vmull_s8, vmull_s16, vmulq_f32,
        vorrq_u8, vpadalq_s16, vpaddq_s16, vpaddq_s32, vreinterpret_f16_u16, vreinterpretq_f32_u32,
        vreinterpretq_s8_s32, vreinterpretq_s8_u8, vreinterpretq_s16_s32, vreinterpretq_s16_u8,
        vreinterpretq_s16_u16, vreinterpretq_u8_u16, vshlq_n_u32, vshlq_u8, vst1q_f32,
    },
    asm,
};

use super::operations::{Op, Simd};
use crate::isa::Isa;

/// NEON, and with `DOT` also byte dot products; 16 lanes are four registers. A value proves that
/// the processor has the instructions.
#[derive(Clone, Copy)]
pub(crate) struct Neon<const DOT: bool>(());

/// Calls intrinsics where `self` is a [`Neon`].
macro_rules! op {
    ($call:expr) => {{
        // SAFETY: Only `detect` creates a `Neon`, after finding that the processor has the
        // instructions, including dot products if `DOT`. Pointers come from references to arrays,
        // or quarters of arrays, of exactly the size that is read or written; the instructions
        // accept unaligned addresses.
        #[allow(unused_unsafe)]
        unsafe {
            $call
        }
    }};
}

#[target_feature(enable = "neon")]
fn run<O: Op, const DOT: bool>(simd: Neon<DOT>, op: O) -> O::Output {
    op.run(simd)
}

#[target_feature(enable = "neon,dotprod")]
fn run_dot<O: Op, const DOT: bool>(simd: Neon<DOT>, op: O) -> O::Output {
    op.run(simd)
}

/// Adds to each lane the dot product of its four signed bytes. Rust's intrinsic is unstable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: Callers have the `dotprod` feature; the instruction accesses only these registers.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Sign-extends 16 integers from 16 to 32 bits.
#[inline]
#[target_feature(enable = "neon")]
fn widen_i16(low: int16x8_t, high: int16x8_t) -> [int32x4_t; 4] {
    [
        vmovl_s16(vget_low_s16(low)),
        vmovl_high_s16(low),
        vmovl_s16(vget_low_s16(high)),
        vmovl_high_s16(high),
    ]
}

/// Evaluates the expression for all four quarters. A closure that is not inlined would not be
/// compiled for the instruction set.
macro_rules! quarters {
    ($quarter:ident => $call:expr) => {
        [
            {
                let $quarter = 0;
                $call
            },
            {
                let $quarter = 1;
                $call
            },
            {
                let $quarter = 2;
                $call
            },
            {
                let $quarter = 3;
                $call
            },
        ]
    };
}

/// Returns a pointer to one of the four quarters of a byte array.
macro_rules! quarter {
    ($from:expr, $quarter:expr) => {
        $from[$quarter * ($from.len() / 4)..].as_ptr()
    };
}

impl<const DOT: bool> Neon<DOT> {
    pub(crate) fn detect() -> Option<Self> {
        let needed = if DOT { Isa::NeonDot } else { Isa::Neon };
        (Isa::detected() >= needed).then_some(Self(()))
    }
}

impl<const DOT: bool> Simd for Neon<DOT> {
    type Bytes = [uint8x16_t; 4];
    type Ints = [int32x4_t; 4];
    type Floats = [float32x4_t; 4];
    type WithoutTiles = Self;

    // The sums of four rows take half of the 32 registers.
    const MAX_ROWS: usize = 4;

    #[inline(always)]
    fn without_tiles(self) -> Self {
        self
    }

    #[inline(always)]
    fn run<O: Op>(self, op: O) -> O::Output {
        if DOT {
            op!(run_dot(self, op))
        } else {
            op!(run(self, op))
        }
    }

    #[inline(always)]
    fn prefetch(self, from: &[u8], ahead: usize) {
        // A prefetch reads nothing, so the address may be outside any allocation.
        op!(asm!(
            "prfm pldl2keep, [{at}]",
            at = in(reg) from.as_ptr().wrapping_add(ahead).addr(),
            options(nomem, nostack, preserves_flags),
        ));
    }

    #[inline(always)]
    fn load_bytes(self, from: &[u8; 64]) -> [uint8x16_t; 4] {
        quarters!(q => op!(vld1q_u8(quarter!(from, q))))
    }

    #[inline(always)]
    fn shift_and_mask(self, v: [uint8x16_t; 4], up: u32, down: u32, mask: u8) -> [uint8x16_t; 4] {
        quarters!(q => {
            op!({
                // A negative left shift is a right shift.
                let up = vdupq_n_s8((up.cast_signed() - down.cast_signed()) as i8);
                vandq_u8(vshlq_u8(v[q], up), vdupq_n_u8(mask))
            })
        })
    }

    #[inline(always)]
    fn or(self, a: [uint8x16_t; 4], b: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
        quarters!(q => op!(vorrq_u8(a[q], b[q])))
    }

    #[inline(always)]
    fn load_u8_as_i16(self, from: &[u8; 32]) -> [uint8x16_t; 4] {
        quarters!(q => op!(vreinterpretq_u8_u16(vmovl_u8(vld1_u8(quarter!(from, q))))))
    }

    #[inline(always)]
    fn splat_i32(self, value: i32) -> [int32x4_t; 4] {
        op!([vdupq_n_s32(value); 4])
    }

    #[inline(always)]
    fn load_i8_as_i32(self, from: &[u8; 16]) -> [int32x4_t; 4] {
        op!({
            let bytes = vld1q_s8(from.as_ptr().cast());
            widen_i16(vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes))
        })
    }

    #[inline(always)]
    fn load_u8_as_i32(self, from: &[u8; 16]) -> [int32x4_t; 4] {
        op!({
            let bytes = vld1q_u8(from.as_ptr());
            widen_i16(
                vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes))),
                vreinterpretq_s16_u16(vmovl_high_u8(bytes)),
            )
        })
    }

    #[inline(always)]
    fn dot(self, sum: [int32x4_t; 4], weights: [uint8x16_t; 4], x: i32) -> [int32x4_t; 4] {
        quarters!(q => {
            op!({
                // Weights are below 128, so they can be read as signed bytes.
                let weights = vreinterpretq_s8_u8(weights[q]);
                let x = vreinterpretq_s8_s32(vdupq_n_s32(x));
                if DOT {
                    sdot(sum[q], weights, x)
                } else {
                    let low = vmull_s8(vget_low_s8(weights), vget_low_s8(x));
                    let high = vmull_high_s8(weights, x);
                    // The sum of two products is at most 2 * 128 * 127, which fits in 16 bits.
                    vpadalq_s16(sum[q], vpaddq_s16(low, high))
                }
            })
        })
    }

    #[inline(always)]
    fn dot_offset_start(self, _: i32) -> [int32x4_t; 4] {
        self.splat_i32(0)
    }

    #[inline(always)]
    fn dot_offset(self, sum: [int32x4_t; 4], weights: [uint8x16_t; 4], x: i32) -> [int32x4_t; 4] {
        // Flipping the top bit subtracts 128 from a byte that is then read as signed.
        let signed = quarters!(q => op!(veorq_u8(weights[q], vdupq_n_u8(0x80))));
        self.dot(sum, signed, x)
    }

    #[inline(always)]
    fn dot_i16(self, sum: [int32x4_t; 4], pairs: [uint8x16_t; 4], x: i32) -> [int32x4_t; 4] {
        quarters!(q => {
            op!({
                let pairs = vreinterpretq_s16_u8(pairs[q]);
                let x = vreinterpretq_s16_s32(vdupq_n_s32(x));
                let low = vmull_s16(vget_low_s16(pairs), vget_low_s16(x));
                let high = vmull_high_s16(pairs, x);
                vaddq_s32(sum[q], vpaddq_s32(low, high))
            })
        })
    }

    #[inline(always)]
    fn mul_add_i32(
        self,
        sum: [int32x4_t; 4],
        a: [int32x4_t; 4],
        b: [int32x4_t; 4],
    ) -> [int32x4_t; 4] {
        quarters!(q => op!(vmlaq_s32(sum[q], a[q], b[q])))
    }

    #[inline(always)]
    fn splat_f32(self, value: f32) -> [float32x4_t; 4] {
        op!([vdupq_n_f32(value); 4])
    }

    #[inline(always)]
    fn to_f32(self, v: [int32x4_t; 4]) -> [float32x4_t; 4] {
        quarters!(q => op!(vcvtq_f32_s32(v[q])))
    }

    #[inline(always)]
    fn load_f16(self, from: &[u8; 32]) -> [float32x4_t; 4] {
        quarters!(q => {
            op!({
                let halves = vld1_u16(quarter!(from, q).cast());
                vcvt_f32_f16(vreinterpret_f16_u16(halves))
            })
        })
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u8; 32]) -> [float32x4_t; 4] {
        quarters!(q => {
            op!({
                let halves = vmovl_u16(vld1_u16(quarter!(from, q).cast()));
                vreinterpretq_f32_u32(vshlq_n_u32::<16>(halves))
            })
        })
    }

    #[inline(always)]
    fn load_f32(self, from: &[u8; 64]) -> [float32x4_t; 4] {
        quarters!(q => op!(vld1q_f32(quarter!(from, q).cast())))
    }

    #[inline(always)]
    fn add(self, a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
        quarters!(q => op!(vaddq_f32(a[q], b[q])))
    }

    #[inline(always)]
    fn mul(self, a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
        quarters!(q => op!(vmulq_f32(a[q], b[q])))
    }

    #[inline(always)]
    fn fma(
        self,
        a: [float32x4_t; 4],
        b: [float32x4_t; 4],
        sum: [float32x4_t; 4],
    ) -> [float32x4_t; 4] {
        quarters!(q => op!(vfmaq_f32(sum[q], a[q], b[q])))
    }

    #[inline(always)]
    fn to_array(self, v: [float32x4_t; 4]) -> [f32; 16] {
        let mut out = [0.0; 16];
        for (to, v) in out.as_chunks_mut::<4>().0.iter_mut().zip(v) {
            op!(vst1q_f32(to.as_mut_ptr(), v));
        }
        out
    }
}
