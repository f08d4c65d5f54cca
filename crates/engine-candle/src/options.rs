//! Options of loading.

use crate::device::ComputeDevice;

/// Options of [`load`](crate::load).
#[derive(Default)]
pub struct LoadOptions {
    /// Maximum sequence length in tokens. `None`: the context length of the model, limited by the
    /// KV cache. Models with rotary factors for short and long contexts (Phi-3) select them by
    /// this length, not by the length of each sequence.
    pub context_length: Option<u32>,
    /// Size of the KV cache in bytes, allocated on first use, or at once on a GPU. `None`: room for 8 sequences of full
    /// length, limited by the memory ([`model_format::MemoryNeeds::default_kv_bytes`]), and for one sequence of
    /// `context_length` at least.
    pub kv_cache_bytes: Option<u64>,
    /// Available memory of the device in bytes, which weights and KV cache must not exceed.
    /// `None`: unknown.
    pub memory_bytes: Option<u64>,
    pub device: ComputeDevice,
    /// Number of compute threads. `None`: the parallelism available to this process.
    pub threads: Option<usize>,
    /// Called during loading with the bytes of weights loaded and the total.
    pub progress: Option<Box<dyn FnMut(u64, u64) + Send>>,
}
