//! How much memory a model needs, from its header.

use crate::header::ModelHeader;

/// Tokens per block of the KV cache.
pub const KV_BLOCK_TOKENS: u32 = 16;
/// Elements of a value that are stored together; the last group of a head is padded.
const VALUE_GROUP: u64 = 16;

/// Default capacity of the KV cache in sequences of full length.
const DEFAULT_SEQUENCES: u64 = 8;
/// Default limit of the KV cache in bytes if the memory is unknown.
const DEFAULT_KV_BYTES: u64 = 1 << 30;

/// Storage type of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvType {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// 8 bits, with a 16-bit scale for 32 elements.
    Q8_0,
}

impl KvType {
    /// The types that can be shown to a user.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Q8_0];
    /// The type that the engine uses.
    pub const OF_ENGINE: Self = Self::F32;

    /// Name of the type: `f32`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
        }
    }

    /// Size of `elements` elements in bytes.
    const fn bytes(self, elements: u64) -> u64 {
        match self {
            Self::F32 => 4 * elements,
            Self::F16 => 2 * elements,
            Self::Q8_0 => elements.div_ceil(32) * 34,
        }
    }
}

/// Memory that a model needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeeds {
    /// Size of the weights in bytes.
    pub weight_bytes: u64,
    /// Size of a token in the KV cache in bytes.
    pub kv_bytes_per_token: u64,
    /// Maximum sequence length of the model in tokens.
    pub context_length: u32,
}

impl MemoryNeeds {
    /// Computes the needs of a model with a KV cache of a type.
    pub fn new(header: &ModelHeader, kv: KvType) -> Self {
        // The engine pads values, but not keys, and caches all tokens in all layers.
        let (heads, width) = (u64::from(header.kv_heads), u64::from(header.head_dim));
        let keys = kv.bytes(heads * width);
        let values = kv.bytes(heads * width.next_multiple_of(VALUE_GROUP));
        Self {
            weight_bytes: header.weight_bytes,
            kv_bytes_per_token: u64::from(header.layers) * (keys + values),
            context_length: header.context_length,
        }
    }

    /// Returns the bytes that weights and one sequence of `tokens` tokens need.
    pub fn bytes(&self, tokens: u32) -> u64 {
        let tokens = u64::from(tokens).next_multiple_of(u64::from(KV_BLOCK_TOKENS));
        let kv = tokens.saturating_mul(self.kv_bytes_per_token);
        self.weight_bytes.saturating_add(kv)
    }

    /// Returns the longest sequence in tokens that fits in `memory_bytes` next to the weights, at
    /// most the context length of the model. `None` if the weights do not fit with one block of
    /// the KV cache.
    pub fn context_in(&self, memory_bytes: u64) -> Option<u32> {
        let left = memory_bytes.checked_sub(self.weight_bytes)?;
        let block = u64::from(KV_BLOCK_TOKENS) * self.kv_bytes_per_token.max(1);
        let tokens = (left / block).saturating_mul(u64::from(KV_BLOCK_TOKENS));
        let tokens = tokens.min(u64::from(self.context_length)) as u32;
        (tokens > 0).then_some(tokens)
    }
    /// Returns the size of the KV cache that the engine allocates if none is requested: room for
    /// 8 sequences of `tokens` tokens, limited to a quarter of the memory that the weights leave,
    /// or to 1 GiB if that is more but not more than half. If the memory is unknown, the limit is
    /// 1 GiB.
    pub fn default_kv_bytes(&self, tokens: u32, memory_bytes: Option<u64>) -> u64 {
        let limit = match memory_bytes.map(|bytes| bytes.saturating_sub(self.weight_bytes)) {
            Some(left) => (left / 4).max(DEFAULT_KV_BYTES.min(left / 2)),
            None => DEFAULT_KV_BYTES,
        };
        let sequence = self.bytes(tokens).saturating_sub(self.weight_bytes);
        sequence.saturating_mul(DEFAULT_SEQUENCES).min(limit)
    }
}
