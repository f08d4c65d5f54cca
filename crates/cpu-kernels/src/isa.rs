use std::sync::OnceLock;

/// The instructions that kernels are compiled for, from the least to the most.
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
}

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
        [Self::Plain, Self::Avx2, Self::Avx512Vnni, Self::AmxInt8]
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

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Isa {
    Isa::Plain
}
