use diagnostics::Diagnostic;

use crate::errors;

/// Storage type of a GGUF tensor that the built-in engine can compute with.
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

/// Type of a tensor that the built-in engine cannot compute with, and other engines can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForeignType {
    number: u32,
    name: &'static str,
    block_size: u64,
    block_bytes: u64,
}

const fn foreign(
    number: u32,
    name: &'static str,
    block_size: u64,
    block_bytes: u64,
) -> ForeignType {
    ForeignType {
        number,
        name,
        block_size,
        block_bytes,
    }
}

const FOREIGN: &[ForeignType] = &[
    foreign(9, "Q8_1", 32, 36),
    foreign(15, "Q8_K", 256, 292),
    foreign(16, "IQ2_XXS", 256, 66),
    foreign(17, "IQ2_XS", 256, 74),
    foreign(18, "IQ3_XXS", 256, 98),
    foreign(19, "IQ1_S", 256, 50),
    foreign(20, "IQ4_NL", 32, 18),
    foreign(21, "IQ3_S", 256, 110),
    foreign(22, "IQ2_S", 256, 82),
    foreign(23, "IQ4_XS", 256, 136),
    foreign(24, "I8", 1, 1),
    foreign(25, "I16", 1, 2),
    foreign(26, "I32", 1, 4),
    foreign(27, "I64", 1, 8),
    foreign(28, "F64", 1, 8),
    foreign(29, "IQ1_M", 256, 56),
    foreign(34, "TQ1_0", 256, 54),
    foreign(35, "TQ2_0", 256, 66),
    foreign(39, "MXFP4", 32, 17),
];

impl ForeignType {
    /// Name in llama.cpp's spelling: `IQ4_XS`.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// `UNSUPPORTED_QUANTIZATION`, naming the type and the tensor.
    pub(crate) fn refusal(self, tensor: &str) -> Diagnostic {
        refusal(self.number, self.name, tensor)
    }
}

/// How the elements of a tensor are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Storage {
    Computable(TensorType),
    Foreign(ForeignType),
}

impl Storage {
    /// Returns the type with this GGUF number, or `UNSUPPORTED_QUANTIZATION` naming the tensor.
    pub(crate) fn from_number(number: u32, tensor: &str) -> Result<Self, Diagnostic> {
        if let Some(known) = TensorType::ALL.iter().find(|t| t.number() == number) {
            return Ok(Self::Computable(*known));
        }
        match FOREIGN.iter().find(|foreign| foreign.number == number) {
            Some(foreign) => Ok(Self::Foreign(*foreign)),
            None => Err(refusal(number, "unknown", tensor)),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Computable(kind) => kind.name(),
            Self::Foreign(foreign) => foreign.name,
        }
    }

    /// Number of weights in a block, and its size in bytes.
    pub(crate) const fn block(self) -> (u64, u64) {
        match self {
            Self::Computable(kind) => (kind.block_size(), kind.block_bytes()),
            Self::Foreign(foreign) => (foreign.block_size, foreign.block_bytes),
        }
    }
}

fn refusal(number: u32, name: &str, tensor: &str) -> Diagnostic {
    errors::unsupported_type(
        tensor,
        &format!("{name} (number {number})"),
        TensorType::ALL.iter().map(|t| t.name()),
    )
}

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
}
