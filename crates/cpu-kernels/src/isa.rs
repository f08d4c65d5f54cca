use std::sync::OnceLock;

/// The instructions that kernels are compiled for, from the least to the most of an
/// architecture. Those of another one are never available; kernels take plain ones instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What every processor of the architecture has.
    Plain,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// The same with AVX-512 F, BW, VL and VNNI.
    Avx512Vnni,
    /// The same with AMX's tiles of bytes.
    AmxInt8,
    /// 64-bit ARM with NEON.
    Neon,
    /// The same with dot products of bytes.
    NeonDot,
}

#[cfg(target_arch = "x86_64")]
const OF_ARCHITECTURE: [Isa; 4] = [Isa::Plain, Isa::Avx2, Isa::Avx512Vnni, Isa::AmxInt8];
#[cfg(target_arch = "aarch64")]
const OF_ARCHITECTURE: [Isa; 3] = [Isa::Plain, Isa::Neon, Isa::NeonDot];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OF_ARCHITECTURE: [Isa; 1] = [Isa::Plain];

impl Isa {
    /// The most useful that this processor has: tiles have to prove themselves first.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| match Self::most() {
            Self::AmxInt8 if !crate::trial::tiles_are_worth_it() => Self::Avx512Vnni,
            most => most,
        })
    }

    /// Everything that this processor has, the least first.
    pub fn available() -> impl Iterator<Item = Self> {
        OF_ARCHITECTURE
            .into_iter()
            .filter(|isa| *isa <= Self::most())
    }

    /// The most that this processor has.
    pub(crate) fn most() -> Self {
        static MOST: OnceLock<Isa> = OnceLock::new();
        *MOST.get_or_init(detect)
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    use std::arch::is_x86_feature_detected as has;
    if !(has!("avx2") && has!("fma") && has!("f16c")) {
        Isa::Plain
    } else if !(has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512vnni")) {
        Isa::Avx2
    } else if crate::simd::tiles_allowed() {
        Isa::AmxInt8
    } else {
        Isa::Avx512Vnni
    }
}

#[cfg(target_arch = "aarch64")]
fn detect() -> Isa {
    use std::arch::is_aarch64_feature_detected as has;
    // Kernels read numbers as they lie in memory, the lowest byte first.
    if cfg!(target_endian = "big") || !has!("neon") {
        Isa::Plain
    } else if has!("dotprod") {
        Isa::NeonDot
    } else {
        Isa::Neon
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect() -> Isa {
    Isa::Plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_goes_from_plain_to_the_most() {
        let available: Vec<_> = Isa::available().collect();
        assert!(available.is_sorted());
        assert_eq!(available.first(), Some(&Isa::Plain));
        assert_eq!(available.last(), Some(&Isa::most()));
        assert!(available.contains(&Isa::best()));
        let arm = |isa| isa == Isa::Neon || isa == Isa::NeonDot;
        let foreign = |&isa: &Isa| isa != Isa::Plain && arm(isa) != cfg!(target_arch = "aarch64");
        assert!(!available.iter().any(foreign), "{available:?}");
    }
}
