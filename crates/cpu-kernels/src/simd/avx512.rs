#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512, __m512i, _MM_HINT_T1, _mm_cvtsi32_si128, _mm_loadu_si128, _mm_prefetch,
    _mm256_loadu_si256, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castsi512_ps,
    _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi16, _mm512_cvtepu8_epi32,
    _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_dpbusd_epi32, _mm512_dpwssd_epi32,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_mullo_epi32,
    _mm512_or_si512, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_sll_epi16,
    _mm512_slli_epi32, _mm512_srl_epi16, _mm512_storeu_ps, _mm512_storeu_si512,
};

use super::{Op, Simd, amx};
use crate::Isa;

/// AVX-512 with byte, word and dot-product instructions, and with those on `TILES` of bytes.
/// A value is the proof that the processor has them.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const TILES: bool>(());

impl<const TILES: bool> Avx512<TILES> {
    pub(crate) fn detect() -> Option<Self> {
        let needed = if TILES { Isa::AmxInt8 } else { Isa::Avx512Vnni };
        (Isa::most() >= needed).then_some(Self(()))
    }
}

/// An intrinsic, where `self` is an [`Avx512`].
macro_rules! op {
    ($call:expr) => {{
        // SAFETY: A value of `Avx512` is made in `detect` alone, after the processor was found
        // to have the instructions, and those on tiles are allowed to this process and used
        // inside of `Simd::run` alone. Pointers are made from references to arrays of exactly
        // the size that is read or written, by instructions that take any address.
        #[allow(unused_unsafe)]
        unsafe {
            $call
        }
    }};
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn run<const TILES: bool, O: Op>(simd: Avx512<TILES>, op: O) -> O::Output {
    op.run(simd)
}

impl<const TILES: bool> Simd for Avx512<TILES> {
    type Bytes = __m512i;
    type Ints = __m512i;
    type Floats = __m512;
    type Few = Avx512<false>;

    const MOST_ROWS: usize = if TILES { 16 } else { 8 };

    #[inline(always)]
    fn few(self) -> Avx512<false> {
        Avx512(())
    }

    #[inline(always)]
    fn run<O: Op>(self, op: O) -> O::Output {
        if !TILES {
            return op!(run(self, op));
        }
        op!(amx::configure());
        let output = op!(run(self, op));
        op!(amx::release());
        output
    }

    #[inline(always)]
    fn dots<const GROUPS: usize>(
        self,
        starts: &[i32; 16],
        weights: [__m512i; GROUPS],
        x: &[i32; 128],
        part: usize,
    ) -> [__m512i; 16] {
        let mut bytes = amx::Lines([[0_u8; 64]; GROUPS]);
        for (line, weights) in bytes.0.iter_mut().zip(weights) {
            op!(_mm512_storeu_si512(line.as_mut_ptr().cast(), weights));
        }
        // Only a run with tiles has panels of 16 rows.
        let sums = op!(amx::multiply(&bytes, x, part));
        let mut out = [self.ints(0); 16];
        for row in 0..16 {
            out[row] = op!(_mm512_add_epi32(
                _mm512_loadu_si512(sums.0[row].as_ptr().cast()),
                _mm512_set1_epi32(starts[row])
            ));
        }
        out
    }

    #[inline(always)]
    fn prefetch(self, from: &[u8], ahead: usize) {
        // Nothing is read; an address outside of what is allocated does no harm.
        op!(_mm_prefetch::<_MM_HINT_T1>(
            from.as_ptr().wrapping_add(ahead).cast()
        ));
    }

    #[inline(always)]
    fn bytes(self, from: &[u8; 64]) -> __m512i {
        op!(_mm512_loadu_si512(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn bits(self, v: __m512i, up: u32, down: u32, mask: u8) -> __m512i {
        op!({
            let up = _mm512_sll_epi16(v, _mm_cvtsi32_si128(up.cast_signed()));
            let down = _mm512_srl_epi16(up, _mm_cvtsi32_si128(down.cast_signed()));
            _mm512_and_si512(down, _mm512_set1_epi8(mask.cast_signed()))
        })
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_or_si512(a, b))
    }

    #[inline(always)]
    fn pairs(self, from: &[u8; 32]) -> __m512i {
        op!(_mm512_cvtepu8_epi16(_mm256_loadu_si256(
            from.as_ptr().cast()
        )))
    }

    #[inline(always)]
    fn ints(self, value: i32) -> __m512i {
        op!(_mm512_set1_epi32(value))
    }

    #[inline(always)]
    fn signed(self, from: &[u8; 16]) -> __m512i {
        op!(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn unsigned(self, from: &[u8; 16]) -> __m512i {
        op!(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn dot(self, sum: __m512i, weights: __m512i, x: i32) -> __m512i {
        op!(_mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(x)))
    }

    #[inline(always)]
    fn start_offset(self, x_sum: i32) -> __m512i {
        self.ints(x_sum.wrapping_mul(-128))
    }

    #[inline(always)]
    fn dot_offset(self, sum: __m512i, weights: __m512i, x: i32) -> __m512i {
        self.dot(sum, weights, x)
    }

    #[inline(always)]
    fn dot_pairs(self, sum: __m512i, pairs: __m512i, x: i32) -> __m512i {
        op!(_mm512_dpwssd_epi32(sum, pairs, _mm512_set1_epi32(x)))
    }

    #[inline(always)]
    fn add_product(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_add_epi32(sum, _mm512_mullo_epi32(a, b)))
    }

    #[inline(always)]
    fn floats(self, value: f32) -> __m512 {
        op!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn to_floats(self, v: __m512i) -> __m512 {
        op!(_mm512_cvtepi32_ps(v))
    }

    #[inline(always)]
    fn halves(self, from: &[u8; 32]) -> __m512 {
        op!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn upper_halves(self, from: &[u8; 32]) -> __m512 {
        op!({
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        })
    }

    #[inline(always)]
    fn singles(self, from: &[u8; 64]) -> __m512 {
        op!(_mm512_loadu_ps(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, sum: __m512) -> __m512 {
        op!(_mm512_fmadd_ps(a, b, sum))
    }

    #[inline(always)]
    fn array(self, v: __m512) -> [f32; 16] {
        let mut out = [0.0; 16];
        op!(_mm512_storeu_ps(out.as_mut_ptr(), v));
        out
    }
}
