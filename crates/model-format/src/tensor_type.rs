use diagnostics::Diagnostic;

use crate::errors;

/// Storage type of a GGUF tensor; only types that an engine can compute with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorType {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// 16-bit brain float: the upper half of a 32-bit float.
    BF16,
    /// 4 bits, with a scale for 32 weights.
    Q4_0,
    /// 4 bits, with a scale and a minimum for 32 weights.
    Q4_1,
    /// 5 bits, with a scale for 32 weights.
    Q5_0,
    /// 5 bits, with a scale and a minimum for 32 weights.
    Q5_1,
    /// 8 bits, with a scale for 32 weights.
    Q8_0,
    /// 2 bits in super-blocks of 256.
    Q2K,
    /// 3 bits in super-blocks of 256.
    Q3K,
    /// 4 bits in super-blocks of 256.
    Q4K,
    /// 5 bits in super-blocks of 256.
    Q5K,
    /// 6 bits in super-blocks of 256.
    Q6K,
}

/// Numbers and names of GGUF types that no engine can compute with.
const OTHER_NAMES: &[(u32, &str)] = &[
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

impl TensorType {
    /// All supported types.
    pub const ALL: &[Self] = &[
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// GGUF number, name, weights per block, bytes per block.
    const fn properties(self) -> (u32, &'static str, u64, u64) {
        match self {
            Self::F32 => (0, "F32", 1, 4),
            Self::F16 => (1, "F16", 1, 2),
            Self::BF16 => (30, "BF16", 1, 2),
            Self::Q4_0 => (2, "Q4_0", 32, 18),
            Self::Q4_1 => (3, "Q4_1", 32, 20),
            Self::Q5_0 => (6, "Q5_0", 32, 22),
            Self::Q5_1 => (7, "Q5_1", 32, 24),
            Self::Q8_0 => (8, "Q8_0", 32, 34),
            Self::Q2K => (10, "Q2_K", 256, 84),
            Self::Q3K => (11, "Q3_K", 256, 110),
            Self::Q4K => (12, "Q4_K", 256, 144),
            Self::Q5K => (13, "Q5_K", 256, 176),
            Self::Q6K => (14, "Q6_K", 256, 210),
        }
    }

    /// Number in GGUF files.
    pub const fn number(self) -> u32 {
        self.properties().0
    }

    /// Name in llama.cpp's spelling: `Q4_K`.
    pub const fn name(self) -> &'static str {
        self.properties().1
    }

    /// Number of weights in a block.
    pub const fn block_size(self) -> u64 {
        self.properties().2
    }

    /// Size of a block in bytes.
    pub const fn block_bytes(self) -> u64 {
        self.properties().3
    }

    /// Returns the type with this GGUF number, or `UNSUPPORTED_QUANTIZATION` naming the type and
    /// the tensor.
    pub(crate) fn from_number(number: u32, tensor: &str) -> Result<Self, Diagnostic> {
        if let Some(known) = Self::ALL.iter().find(|t| t.number() == number) {
            return Ok(*known);
        }
        let name = OTHER_NAMES
            .iter()
            .find(|(n, _)| *n == number)
            .map_or("unknown", |(_, name)| name);
        Err(errors::unsupported_type(
            tensor,
            &format!("{name} (number {number})"),
            Self::ALL.iter().map(|t| t.name()),
        ))
    }
}
