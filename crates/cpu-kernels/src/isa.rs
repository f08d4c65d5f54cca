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
}

impl Isa {
    /// The most that this processor has.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(detect)
    }

    /// Everything that this processor has, the least first.
    pub fn available() -> impl Iterator<Item = Self> {
        [Self::Plain, Self::Avx2, Self::Avx512Vnni]
            .into_iter()
            .filter(|isa| *isa <= Self::best())
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    use std::arch::is_x86_feature_detected as has;
    if !(has!("avx2") && has!("fma") && has!("f16c")) {
        Isa::Plain
    } else if has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512vnni") {
        Isa::Avx512Vnni
    } else {
        Isa::Avx2
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Isa {
    Isa::Plain
}
