//! Portable operations on 16 floats.
//!
//! A kernel is written once, generic over [`Lanes`], and compiled for each [`Isa`]. Every operation
//! rounds once, as IEEE 754 defines, so that results do not depend on the instruction set.

use crate::isa::Isa;

/// Floats per operation.
pub(crate) const LANES: usize = 16;

/// Operations on 16 `f32`. A value of an implementing type proves that the processor has the
/// instructions: only [`dispatch`] creates one.
pub(crate) trait Lanes: Copy {
    /// 16 floats.
    type F32: Copy;
    /// Number of [`Lanes::F32`] that fit in the registers; kernels choose their tile sizes by it.
    const REGISTERS: usize;

    fn splat(self, value: f32) -> Self::F32;
    fn load(self, from: &[f32; LANES]) -> Self::F32;
    fn store(self, value: Self::F32, to: &mut [f32; LANES]);
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// Returns `a * b + c`, rounded once.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// Returns the minimum, or `b` if either is NaN.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// Returns the maximum, or `b` if either is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// Returns `a * 2^exponent` for integers `exponent` from -150 to 128.
    fn scale(self, a: Self::F32, exponent: Self::F32) -> Self::F32;

    /// Loads fewer than 16 floats, padded with zeros.
    #[inline(always)]
    fn load_part(self, from: &[f32]) -> Self::F32 {
        let mut buffer = [0.0; LANES];
        buffer[..from.len()].copy_from_slice(from);
        self.load(&buffer)
    }

    /// Stores the first lanes into a slice of fewer than 16 floats.
    #[inline(always)]
    fn store_part(self, value: Self::F32, to: &mut [f32]) {
        let mut buffer = [0.0; LANES];
        self.store(value, &mut buffer);
        to.copy_from_slice(&buffer[..to.len()]);
    }

    /// Returns the sum of the lanes, in the order of [`Lanes::reduce`].
    #[inline(always)]
    fn reduce_sum(self, value: Self::F32) -> f32 {
        self.reduce(value, |a, b| a + b)
    }

    /// Returns the maximum of the lanes.
    #[inline(always)]
    fn reduce_max(self, value: Self::F32) -> f32 {
        self.reduce(value, |a, b| if a > b { a } else { b })
    }

    /// Combines lane `i` with lane `i + 8`, then the results at distances 4, 2 and 1.
    #[inline(always)]
    fn reduce(self, value: Self::F32, combine: impl Fn(f32, f32) -> f32) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(value, &mut lanes);
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                lanes[lane] = combine(lanes[lane], lanes[lane + half]);
            }
            half /= 2;
        }
        lanes[0]
    }
}

/// A computation that is compiled for each [`Isa`]. `run` and everything that it calls must be
/// `#[inline(always)]`; otherwise they are not compiled for the instruction set.
pub(crate) trait Kernel {
    type Output;
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// Runs a kernel with `isa`, or with the highest instruction set that the processor has.
#[inline]
#[allow(unsafe_code)]
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa.min(Isa::detected()) {
        // On ARM, the compiler vectorizes the array operations with NEON.
        Isa::Plain | Isa::Neon | Isa::NeonDot => kernel.run(Plain),
        // SAFETY: `Isa::detected` has found the instructions on this processor.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::with_avx2(kernel) },
        // SAFETY: `Isa::detected` has found the instructions on this processor.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni | Isa::AmxInt8 => unsafe { x86::with_avx512(kernel) },
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 | Isa::Avx512Vnni | Isa::AmxInt8 => kernel.run(Plain),
    }
}

/// The baseline instructions of the target architecture.
#[derive(Clone, Copy)]
struct Plain;

/// Applies `combine` lane by lane.
#[inline(always)]
fn lanewise(a: [f32; LANES], b: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut out = a;
    for (a, b) in out.iter_mut().zip(b) {
        *a = combine(*a, b);
    }
    out
}

impl Lanes for Plain {
    type F32 = [f32; LANES];
    const REGISTERS: usize = 4;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F32 {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F32 {
        *from
    }

    #[inline(always)]
    fn store(self, value: Self::F32, to: &mut [f32; LANES]) {
        *to = value;
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanewise(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanewise(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanewise(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanewise(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        let mut out = c;
        for (c, (a, b)) in out.iter_mut().zip(a.into_iter().zip(b)) {
            *c = a.mul_add(b, *c);
        }
        out
    }

    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanewise(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanewise(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn scale(self, a: Self::F32, exponent: Self::F32) -> Self::F32 {
        // Two multiplications, of which only the second can round.
        lanewise(a, exponent, |a, exponent| {
            let exponent = exponent as i32;
            let power = |e: i32| f32::from_bits(((e + 127) << 23) as u32);
            a * power(exponent >> 1) * power(exponent - (exponent >> 1))
        })
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm256_add_epi32, _mm256_add_ps, _mm256_castsi256_ps, _mm256_cvtps_epi32,
        _mm256_div_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps,
        _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_srai_epi32,
        _mm256_storeu_ps, _mm256_sub_epi32, _mm256_sub_ps, _mm512_add_ps, _mm512_div_ps,
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps,
        _mm512_scalef_ps, _mm512_set1_ps, _mm512_storeu_ps, _mm512_sub_ps,
    };

    use super::{Kernel, LANES, Lanes};

    /// # Safety
    ///
    /// The processor has AVX2, FMA and F16C.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn with_avx2<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx2(()))
    }

    /// # Safety
    ///
    /// The processor has AVX-512 F, BW, VL and VNNI.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(super) unsafe fn with_avx512<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx512(()))
    }

    /// Created only by [`with_avx2`].
    #[derive(Clone, Copy)]
    struct Avx2(());

    /// Created only by [`with_avx512`].
    #[derive(Clone, Copy)]
    struct Avx512(());

    /// Calls the intrinsic on both halves.
    macro_rules! halves {
        ($intrinsic:ident($($operand:expr),+)) => {
            // SAFETY: `self` proves that the processor has the instructions.
            unsafe { [$intrinsic($($operand[0]),+), $intrinsic($($operand[1]),+)] }
        };
    }

    impl Lanes for Avx2 {
        type F32 = [__m256; 2];
        const REGISTERS: usize = 8;

        #[inline(always)]
        fn splat(self, value: f32) -> Self::F32 {
            // SAFETY: `self` proves that the processor has the instructions.
            unsafe { [_mm256_set1_ps(value); 2] }
        }

        #[inline(always)]
        fn load(self, from: &[f32; LANES]) -> Self::F32 {
            let from = from.as_ptr();
            // SAFETY: As for `splat`; `from` has 16 floats and may be unaligned.
            unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
        }

        #[inline(always)]
        fn store(self, value: Self::F32, to: &mut [f32; LANES]) {
            let to = to.as_mut_ptr();
            // SAFETY: As for `splat`; `to` has 16 floats and may be unaligned.
            unsafe {
                _mm256_storeu_ps(to, value[0]);
                _mm256_storeu_ps(to.add(8), value[1]);
            }
        }

        #[inline(always)]
        fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            halves!(_mm256_add_ps(a, b))
        }

        #[inline(always)]
        fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            halves!(_mm256_sub_ps(a, b))
        }

        #[inline(always)]
        fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            halves!(_mm256_mul_ps(a, b))
        }

        #[inline(always)]
        fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            halves!(_mm256_div_ps(a, b))
        }

        #[inline(always)]
        fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
            halves!(_mm256_fmadd_ps(a, b, c))
        }

        #[inline(always)]
        fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            halves!(_mm256_min_ps(a, b))
        }

        #[inline(always)]
        fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            halves!(_mm256_max_ps(a, b))
        }

        #[inline(always)]
        fn scale(self, a: Self::F32, exponent: Self::F32) -> Self::F32 {
            let mut out = a;
            for (half, exponent) in out.iter_mut().zip(exponent) {
                // Two multiplications, of which only the second can round.
                // SAFETY: `self` proves that the processor has the instructions.
                unsafe {
                    let bias = _mm256_set1_epi32(127);
                    let exponent = _mm256_cvtps_epi32(exponent);
                    let first = _mm256_srai_epi32::<1>(exponent);
                    for part in [first, _mm256_sub_epi32(exponent, first)] {
                        let bits = _mm256_slli_epi32::<23>(_mm256_add_epi32(part, bias));
                        *half = _mm256_mul_ps(*half, _mm256_castsi256_ps(bits));
                    }
                }
            }
            out
        }
    }

    /// Calls the intrinsic.
    macro_rules! full {
        ($intrinsic:ident($($operand:expr),+)) => {
            // SAFETY: `self` proves that the processor has the instructions.
            unsafe { $intrinsic($($operand),+) }
        };
    }

    impl Lanes for Avx512 {
        type F32 = __m512;
        const REGISTERS: usize = 32;

        #[inline(always)]
        fn splat(self, value: f32) -> Self::F32 {
            full!(_mm512_set1_ps(value))
        }

        #[inline(always)]
        fn load(self, from: &[f32; LANES]) -> Self::F32 {
            // SAFETY: As for `splat`; `from` has 16 floats and may be unaligned.
            unsafe { _mm512_loadu_ps(from.as_ptr()) }
        }

        #[inline(always)]
        fn store(self, value: Self::F32, to: &mut [f32; LANES]) {
            // SAFETY: As for `splat`; `to` has 16 floats and may be unaligned.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
        }

        #[inline(always)]
        fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            full!(_mm512_add_ps(a, b))
        }

        #[inline(always)]
        fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            full!(_mm512_sub_ps(a, b))
        }

        #[inline(always)]
        fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            full!(_mm512_mul_ps(a, b))
        }

        #[inline(always)]
        fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            full!(_mm512_div_ps(a, b))
        }

        #[inline(always)]
        fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
            full!(_mm512_fmadd_ps(a, b, c))
        }

        #[inline(always)]
        fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            full!(_mm512_min_ps(a, b))
        }

        #[inline(always)]
        fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            full!(_mm512_max_ps(a, b))
        }

        #[inline(always)]
        fn scale(self, a: Self::F32, exponent: Self::F32) -> Self::F32 {
            full!(_mm512_scalef_ps(a, exponent))
        }
    }
}
