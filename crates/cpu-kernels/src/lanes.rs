//! Sixteen numbers at a time, whatever the processor.
//!
//! A kernel is written once, over [`Lanes`], and compiled for each [`Isa`]. Every operation
//! rounds once, as IEEE 754 says, so the bits do not depend on the instructions.

use crate::Isa;

/// Numbers that are computed with together.
pub(crate) const LANES: usize = 16;

/// Operations on 16 32-bit floats. A value of an implementing type is the proof that the
/// processor has its instructions: [`dispatch`] alone makes them.
pub(crate) trait Lanes: Copy {
    /// 16 floats.
    type F32: Copy;
    /// How many of them the registers hold; kernels choose their tiles by it.
    const REGISTERS: usize;

    fn splat(self, value: f32) -> Self::F32;
    fn load(self, from: &[f32; LANES]) -> Self::F32;
    fn store(self, value: Self::F32, to: &mut [f32; LANES]);
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// The lesser; `b` where one is not a number.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The greater; `b` where one is not a number.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a` times two to the power of the whole number `exponent`, -150 to 128.
    fn scale(self, a: Self::F32, exponent: Self::F32) -> Self::F32;

    /// The numbers of a slice shorter than 16, zeros behind.
    #[inline(always)]
    fn load_part(self, from: &[f32]) -> Self::F32 {
        let mut buffer = [0.0; LANES];
        buffer[..from.len()].copy_from_slice(from);
        self.load(&buffer)
    }

    /// Fills a slice shorter than 16 with the first lanes.
    #[inline(always)]
    fn store_part(self, value: Self::F32, to: &mut [f32]) {
        let mut buffer = [0.0; LANES];
        self.store(value, &mut buffer);
        to.copy_from_slice(&buffer[..to.len()]);
    }

    /// The sum of the lanes, by halves.
    #[inline(always)]
    fn sum(self, value: Self::F32) -> f32 {
        self.fold(value, |a, b| a + b)
    }

    /// The greatest of the lanes.
    #[inline(always)]
    fn greatest(self, value: Self::F32) -> f32 {
        self.fold(value, |a, b| if a > b { a } else { b })
    }

    /// Combines lane `i` with lane `i + 8`, what results with 4, 2 and 1 lanes further.
    #[inline(always)]
    fn fold(self, value: Self::F32, combine: impl Fn(f32, f32) -> f32) -> f32 {
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

/// A computation that is compiled for each [`Isa`]. `run` must be `#[inline(always)]`, and so
/// must be what it calls, or the instructions are not used.
pub(crate) trait Kernel {
    /// What it gives back.
    type Output;
    /// Computes.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// Runs a kernel with the instructions of `isa`, or the best that the processor has.
#[inline]
#[allow(unsafe_code)]
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa.min(Isa::most()) {
        // What is written over arrays is compiled to NEON where that is.
        Isa::Plain | Isa::Neon | Isa::NeonDot => kernel.run(Plain),
        // SAFETY: `Isa::most` has found the instructions on this processor.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::with_avx2(kernel) },
        // SAFETY: `Isa::most` has found the instructions on this processor.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni | Isa::AmxInt8 => unsafe { x86::with_avx512(kernel) },
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 | Isa::Avx512Vnni | Isa::AmxInt8 => kernel.run(Plain),
    }
}

/// No instructions but those that every processor of the architecture has.
#[derive(Clone, Copy)]
struct Plain;

/// `combine` lane by lane.
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
        // In two steps, of which only the second can round.
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

    // SAFETY: Callers have checked that the processor has AVX2, FMA and F16C.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn with_avx2<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx2(()))
    }

    // SAFETY: Callers have checked that the processor has AVX-512 F, BW, VL and VNNI.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(super) unsafe fn with_avx512<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(Avx512(()))
    }

    /// Made by [`with_avx2`] alone.
    #[derive(Clone, Copy)]
    struct Avx2(());

    /// Made by [`with_avx512`] alone.
    #[derive(Clone, Copy)]
    struct Avx512(());

    /// The intrinsic on both halves.
    macro_rules! halves {
        ($intrinsic:ident($($operand:expr),+)) => {
            // SAFETY: `self` is made where the processor has the instructions.
            unsafe { [$intrinsic($($operand[0]),+), $intrinsic($($operand[1]),+)] }
        };
    }

    impl Lanes for Avx2 {
        type F32 = [__m256; 2];
        const REGISTERS: usize = 8;

        #[inline(always)]
        fn splat(self, value: f32) -> Self::F32 {
            // SAFETY: `self` is made where the processor has the instructions.
            unsafe { [_mm256_set1_ps(value); 2] }
        }

        #[inline(always)]
        fn load(self, from: &[f32; LANES]) -> Self::F32 {
            let from = from.as_ptr();
            // SAFETY: As above; 16 floats are readable at `from`, of any alignment.
            unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
        }

        #[inline(always)]
        fn store(self, value: Self::F32, to: &mut [f32; LANES]) {
            let to = to.as_mut_ptr();
            // SAFETY: As above; 16 floats are writable at `to`, of any alignment.
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
                // SAFETY: `self` is made where the processor has the instructions. In two
                // steps, of which only the second can round.
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

    /// The intrinsic on whole registers.
    macro_rules! whole {
        ($intrinsic:ident($($operand:expr),+)) => {
            // SAFETY: `self` is made where the processor has the instructions.
            unsafe { $intrinsic($($operand),+) }
        };
    }

    impl Lanes for Avx512 {
        type F32 = __m512;
        const REGISTERS: usize = 32;

        #[inline(always)]
        fn splat(self, value: f32) -> Self::F32 {
            whole!(_mm512_set1_ps(value))
        }

        #[inline(always)]
        fn load(self, from: &[f32; LANES]) -> Self::F32 {
            // SAFETY: As above; 16 floats are readable at `from`, of any alignment.
            unsafe { _mm512_loadu_ps(from.as_ptr()) }
        }

        #[inline(always)]
        fn store(self, value: Self::F32, to: &mut [f32; LANES]) {
            // SAFETY: As above; 16 floats are writable at `to`, of any alignment.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
        }

        #[inline(always)]
        fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            whole!(_mm512_add_ps(a, b))
        }

        #[inline(always)]
        fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            whole!(_mm512_sub_ps(a, b))
        }

        #[inline(always)]
        fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            whole!(_mm512_mul_ps(a, b))
        }

        #[inline(always)]
        fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            whole!(_mm512_div_ps(a, b))
        }

        #[inline(always)]
        fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
            whole!(_mm512_fmadd_ps(a, b, c))
        }

        #[inline(always)]
        fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            whole!(_mm512_min_ps(a, b))
        }

        #[inline(always)]
        fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
            whole!(_mm512_max_ps(a, b))
        }

        #[inline(always)]
        fn scale(self, a: Self::F32, exponent: Self::F32) -> Self::F32 {
            whole!(_mm512_scalef_ps(a, exponent))
        }
    }
}
