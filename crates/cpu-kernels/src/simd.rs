//! SIMD operations of the matrix products, implemented for each instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod operations;
mod plain;

pub(crate) use operations::{Op, Simd, WithSimd};
pub(crate) use plain::Plain;

use crate::isa::Isa;

/// Calls `work` with the implementation for `isa`, or with the plain one if the processor lacks
/// the instruction set.
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
    fn available_sets_have_their_own_implementation_and_others_use_plain() {
        let plain = dispatch(Isa::Plain, Name);
        let mut used = Vec::new();
        for isa in Isa::ALL {
            let name = dispatch(isa, Name);
            if isa.is_available() {
                assert!(!used.contains(&name), "{isa:?} shares {name}");
                used.push(name);
            } else {
                assert_eq!(name, plain, "{isa:?}");
            }
        }
    }
}
