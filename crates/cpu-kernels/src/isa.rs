use std::sync::OnceLock;

/// Instruction sets that kernels are compiled for, in ascending order within an architecture.
/// A kernel called with an instruction set that the processor lacks uses one that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// The baseline of the target architecture.
    Plain,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// [`Isa::Avx2`] plus AVX-512 F, BW, VL and VNNI.
    Avx512Vnni,
    /// [`Isa::Avx512Vnni`] plus AMX-INT8.
    AmxInt8,
    /// 64-bit ARM with NEON.
    Neon,
    /// [`Isa::Neon`] plus byte dot products.
    NeonDot,
}

impl Isa {
    /// All instruction sets of all architectures.
    pub const ALL: [Self; 6] = [
        Self::Plain,
        Self::Avx2,
        Self::Avx512Vnni,
        Self::AmxInt8,
        Self::Neon,
        Self::NeonDot,
    ];

    /// Returns true if this processor has the instruction set.
    pub fn is_available(self) -> bool {
        let is_of_target = match self {
            Self::Plain => true,
            Self::Avx2 | Self::Avx512Vnni | Self::AmxInt8 => cfg!(target_arch = "x86_64"),
            Self::Neon | Self::NeonDot => cfg!(target_arch = "aarch64"),
        };
        is_of_target && self <= Self::detected()
    }

    /// Returns the instruction sets that this processor has, in ascending order.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// Returns the highest instruction set that this processor has.
    pub(crate) fn detected() -> Self {
        static DETECTED: OnceLock<Isa> = OnceLock::new();
        *DETECTED.get_or_init(detect)
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    use std::arch::is_x86_feature_detected as has;
    if !(has!("avx2") && has!("fma") && has!("f16c")) {
        Isa::Plain
    } else if !(has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512vnni")) {
        Isa::Avx2
    } else if crate::amx::is_permitted() {
        Isa::AmxInt8
    } else {
        Isa::Avx512Vnni
    }
}

#[cfg(target_arch = "aarch64")]
fn detect() -> Isa {
    use std::arch::is_aarch64_feature_detected as has;
    // The NEON kernels load values in little-endian order.
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
    fn available_sets_ascend_from_plain_to_the_detected_one() {
        let available: Vec<_> = Isa::available().collect();
        assert!(available.is_sorted());
        assert_eq!(available.first(), Some(&Isa::Plain));
        assert_eq!(available.last(), Some(&Isa::detected()));
        assert!(available.contains(&Isa::best()));
    }

    #[test]
    fn sets_of_other_architectures_are_not_available() {
        let is_arm = |isa| isa == Isa::Neon || isa == Isa::NeonDot;
        for isa in Isa::available().filter(|isa| *isa != Isa::Plain) {
            assert_eq!(is_arm(isa), cfg!(target_arch = "aarch64"), "{isa:?}");
        }
    }
}
