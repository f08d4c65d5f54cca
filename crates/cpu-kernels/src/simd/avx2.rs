#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T1, _mm_cvtsi32_si128, _mm_loadl_epi64, _mm_loadu_si128,
    _mm_prefetch, _mm256_abs_epi8, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256,
    _mm256_castsi256_ps, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16,
    _mm256_cvtepu8_epi32, _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_mullo_epi32,
    _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_sign_epi8, _mm256_sll_epi16, _mm256_slli_epi32, _mm256_srl_epi16, _mm256_storeu_ps,
    _mm256_xor_si256,
};

use super::operations::{Op, Simd};
use crate::isa::Isa;

/// AVX2, FMA and F16C; 16 lanes are two registers. A value proves that the processor has the
/// instructions.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        (Isa::detected() >= Isa::Avx2).then_some(Self(()))
    }
}

/// Calls intrinsics where `self` is an [`Avx2`].
macro_rules! op {
    ($call:expr) => {{
        // SAFETY: Only `detect` creates an `Avx2`, after finding that the processor has the
        // instructions. Pointers come from references to arrays, or halves of arrays, of exactly
        // the size that is read or written; the instructions accept unaligned addresses.
        #[allow(unused_unsafe)]
        unsafe {
            $call
        }
    }};
}

#[target_feature(enable = "avx2,fma,f16c")]
fn run<O: Op>(simd: Avx2, op: O) -> O::Output {
    op.run(simd)
}

/// Evaluates the expression for both halves. A closure that is not inlined would not be compiled
/// for the instruction set.
macro_rules! both {
    ($half:ident => $call:expr) => {
        [
            {
                let $half = 0;
                $call
            },
            {
                let $half = 1;
                $call
            },
        ]
    };
}

/// Returns a pointer to the first or second half of a byte array.
macro_rules! half {
    ($from:expr, $half:expr) => {
        $from[$half * ($from.len() / 2)..].as_ptr()
    };
}

impl Simd for Avx2 {
    type Bytes = [__m256i; 2];
    type Ints = [__m256i; 2];
    type Floats = [__m256; 2];
    type WithoutTiles = Self;

    const MAX_ROWS: usize = 4;

    #[inline(always)]
    fn without_tiles(self) -> Self {
        self
    }

    #[inline(always)]
    fn run<O: Op>(self, op: O) -> O::Output {
        op!(run(self, op))
    }

    #[inline(always)]
    fn prefetch(self, from: &[u8], ahead: usize) {
        // A prefetch reads nothing, so the address may be outside any allocation.
        op!(_mm_prefetch::<_MM_HINT_T1>(
            from.as_ptr().wrapping_add(ahead).cast()
        ));
    }

    #[inline(always)]
    fn load_bytes(self, from: &[u8; 64]) -> [__m256i; 2] {
        both!(h => op!(_mm256_loadu_si256(half!(from, h).cast())))
    }

    #[inline(always)]
    fn shift_and_mask(self, v: [__m256i; 2], up: u32, down: u32, mask: u8) -> [__m256i; 2] {
        both!(h => {
            op!({
                let up = _mm256_sll_epi16(v[h], _mm_cvtsi32_si128(up.cast_signed()));
                let down = _mm256_srl_epi16(up, _mm_cvtsi32_si128(down.cast_signed()));
                _mm256_and_si256(down, _mm256_set1_epi8(mask.cast_signed()))
            })
        })
    }

    #[inline(always)]
    fn or(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        both!(h => op!(_mm256_or_si256(a[h], b[h])))
    }

    #[inline(always)]
    fn load_u8_as_i16(self, from: &[u8; 32]) -> [__m256i; 2] {
        both!(h => op!(_mm256_cvtepu8_epi16(_mm_loadu_si128(half!(from, h).cast()))))
    }

    #[inline(always)]
    fn splat_i32(self, value: i32) -> [__m256i; 2] {
        op!([_mm256_set1_epi32(value); 2])
    }

    #[inline(always)]
    fn load_i8_as_i32(self, from: &[u8; 16]) -> [__m256i; 2] {
        both!(h => op!(_mm256_cvtepi8_epi32(_mm_loadl_epi64(half!(from, h).cast()))))
    }

    #[inline(always)]
    fn load_u8_as_i32(self, from: &[u8; 16]) -> [__m256i; 2] {
        both!(h => op!(_mm256_cvtepu8_epi32(_mm_loadl_epi64(half!(from, h).cast()))))
    }

    #[inline(always)]
    fn dot(self, sum: [__m256i; 2], weights: [__m256i; 2], x: i32) -> [__m256i; 2] {
        both!(h => {
            op!({
                // The sum of two products is at most 2 * 127 * 127, which fits in 16 bits.
                let products = _mm256_maddubs_epi16(weights[h], _mm256_set1_epi32(x));
                let products = _mm256_madd_epi16(products, _mm256_set1_epi16(1));
                _mm256_add_epi32(sum[h], products)
            })
        })
    }

    #[inline(always)]
    fn dot_offset_start(self, _: i32) -> [__m256i; 2] {
        self.splat_i32(0)
    }

    #[inline(always)]
    fn dot_offset(self, sum: [__m256i; 2], weights: [__m256i; 2], x: i32) -> [__m256i; 2] {
        both!(h => {
            op!({
                // The signs move to the activations, so the sum of two products is at most
                // 2 * 128 * 127, which fits in 16 bits.
                let signed = _mm256_xor_si256(weights[h], _mm256_set1_epi8(i8::MIN));
                let x = _mm256_sign_epi8(_mm256_set1_epi32(x), signed);
                let products = _mm256_maddubs_epi16(_mm256_abs_epi8(signed), x);
                let products = _mm256_madd_epi16(products, _mm256_set1_epi16(1));
                _mm256_add_epi32(sum[h], products)
            })
        })
    }

    #[inline(always)]
    fn dot_i16(self, sum: [__m256i; 2], pairs: [__m256i; 2], x: i32) -> [__m256i; 2] {
        both!(h => {
            op!({
                let products = _mm256_madd_epi16(pairs[h], _mm256_set1_epi32(x));
                _mm256_add_epi32(sum[h], products)
            })
        })
    }

    #[inline(always)]
    fn mul_add_i32(self, sum: [__m256i; 2], a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        both!(h => op!(_mm256_add_epi32(sum[h], _mm256_mullo_epi32(a[h], b[h]))))
    }

    #[inline(always)]
    fn splat_f32(self, value: f32) -> [__m256; 2] {
        op!([_mm256_set1_ps(value); 2])
    }

    #[inline(always)]
    fn to_f32(self, v: [__m256i; 2]) -> [__m256; 2] {
        both!(h => op!(_mm256_cvtepi32_ps(v[h])))
    }

    #[inline(always)]
    fn load_f16(self, from: &[u8; 32]) -> [__m256; 2] {
        both!(h => op!(_mm256_cvtph_ps(_mm_loadu_si128(half!(from, h).cast()))))
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u8; 32]) -> [__m256; 2] {
        both!(h => {
            op!({
                let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(half!(from, h).cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
            })
        })
    }

    #[inline(always)]
    fn load_f32(self, from: &[u8; 64]) -> [__m256; 2] {
        both!(h => op!(_mm256_loadu_ps(half!(from, h).cast())))
    }

    #[inline(always)]
    fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        both!(h => op!(_mm256_add_ps(a[h], b[h])))
    }

    #[inline(always)]
    fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        both!(h => op!(_mm256_mul_ps(a[h], b[h])))
    }

    #[inline(always)]
    fn fma(self, a: [__m256; 2], b: [__m256; 2], sum: [__m256; 2]) -> [__m256; 2] {
        both!(h => op!(_mm256_fmadd_ps(a[h], b[h], sum[h])))
    }

    #[inline(always)]
    fn to_array(self, v: [__m256; 2]) -> [f32; 16] {
        let mut out = [0.0; 16];
        op!(_mm256_storeu_ps(out.as_mut_ptr(), v[0]));
        op!(_mm256_storeu_ps(out[8..].as_mut_ptr(), v[1]));
        out
    }
}
