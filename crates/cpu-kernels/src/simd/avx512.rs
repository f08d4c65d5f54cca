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

use super::operations::{Op, Simd};
use crate::{amx, isa::Isa};

/// AVX-512 F, BW, VL and VNNI, and with `TILES` also AMX-INT8. A value proves that the processor
/// has the instructions.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const TILES: bool>(());

impl<const TILES: bool> Avx512<TILES> {
    pub(crate) fn detect() -> Option<Self> {
        let needed = if TILES { Isa::AmxInt8 } else { Isa::Avx512Vnni };
        (Isa::detected() >= needed).then_some(Self(()))
    }
}

/// Calls intrinsics where `self` is an [`Avx512`].
macro_rules! op {
    ($call:expr) => {{
        // SAFETY: Only `detect` creates an `Avx512`, after finding that the processor has the
        // instructions and, with `TILES`, that this process may use AMX, which is used only inside
        // `Simd::run`. Pointers come from references to arrays of exactly the size that is read
        // or written; the instructions accept unaligned addresses.
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
    type WithoutTiles = Avx512<false>;

    const MAX_ROWS: usize = if TILES { 16 } else { 8 };

    #[inline(always)]
    fn without_tiles(self) -> Avx512<false> {
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
    fn dot_panel<const GROUPS: usize>(
        self,
        starts: &[i32; 16],
        weights: [__m512i; GROUPS],
        x: &[i32; 128],
        part: usize,
    ) -> [__m512i; 16] {
        let mut bytes = amx::CacheAligned([[0_u8; 64]; GROUPS]);
        for (line, weights) in bytes.0.iter_mut().zip(weights) {
            op!(_mm512_storeu_si512(line.as_mut_ptr().cast(), weights));
        }
        // Panels have 16 rows only when `run` has configured the tiles.
        let sums = op!(amx::multiply(&bytes, x, part));
        let mut out = [self.splat_i32(0); 16];
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
        // A prefetch reads nothing, so the address may be outside any allocation.
        op!(_mm_prefetch::<_MM_HINT_T1>(
            from.as_ptr().wrapping_add(ahead).cast()
        ));
    }

    #[inline(always)]
    fn load_bytes(self, from: &[u8; 64]) -> __m512i {
        op!(_mm512_loadu_si512(from.as_ptr().cast()))
    }

    #[inline(always)]
    fn shift_and_mask(self, v: __m512i, up: u32, down: u32, mask: u8) -> __m512i {
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
    fn load_u8_as_i16(self, from: &[u8; 32]) -> __m512i {
        op!(_mm512_cvtepu8_epi16(_mm256_loadu_si256(
            from.as_ptr().cast()
        )))
    }

    #[inline(always)]
    fn splat_i32(self, value: i32) -> __m512i {
        op!(_mm512_set1_epi32(value))
    }

    #[inline(always)]
    fn load_i8_as_i32(self, from: &[u8; 16]) -> __m512i {
        op!(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn load_u8_as_i32(self, from: &[u8; 16]) -> __m512i {
        op!(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn dot(self, sum: __m512i, weights: __m512i, x: i32) -> __m512i {
        op!(_mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(x)))
    }

    #[inline(always)]
    fn dot_offset_start(self, x_sum: i32) -> __m512i {
        self.splat_i32(x_sum.wrapping_mul(-128))
    }

    #[inline(always)]
    fn dot_offset(self, sum: __m512i, weights: __m512i, x: i32) -> __m512i {
        self.dot(sum, weights, x)
    }

    #[inline(always)]
    fn dot_i16(self, sum: __m512i, pairs: __m512i, x: i32) -> __m512i {
        op!(_mm512_dpwssd_epi32(sum, pairs, _mm512_set1_epi32(x)))
    }

    #[inline(always)]
    fn mul_add_i32(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_add_epi32(sum, _mm512_mullo_epi32(a, b)))
    }

    #[inline(always)]
    fn splat_f32(self, value: f32) -> __m512 {
        op!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn to_f32(self, v: __m512i) -> __m512 {
        op!(_mm512_cvtepi32_ps(v))
    }

    #[inline(always)]
    fn load_f16(self, from: &[u8; 32]) -> __m512 {
        op!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
    }

    #[inline(always)]
    fn load_bf16(self, from: &[u8; 32]) -> __m512 {
        op!({
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        })
    }

    #[inline(always)]
    fn load_f32(self, from: &[u8; 64]) -> __m512 {
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
    fn to_array(self, v: __m512) -> [f32; 16] {
        let mut out = [0.0; 16];
        op!(_mm512_storeu_ps(out.as_mut_ptr(), v));
        out
    }
}
