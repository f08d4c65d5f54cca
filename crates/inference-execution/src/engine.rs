use diagnostics::{Code, Diagnostic};
use worker_contract::SamplingValues;

/// Properties of a loaded model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDescription {
    /// Model family, such as `llama`.
    pub architecture: String,
    pub layers: u32,
    /// Number of logits per row.
    pub vocab_size: u32,
    /// Maximum length of a sequence in tokens, prompt and output together.
    pub context_length: u32,
    /// Weight type, such as `F16` or `Q8_0`.
    pub quantization: String,
    /// Size of the weights in memory.
    pub weight_bytes: u64,
    pub parameters: u64,
    /// Parameters of the sampler that the model recommends.
    pub sampling: SamplingValues,
}

/// Identifies a sequence. Ids are not reused within a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

/// Consecutive tokens of one sequence: a part of its prefill, or one token to decode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    pub sequence: SequenceId,
    /// Token ids; never empty.
    pub tokens: Vec<u32>,
    /// Position of the first token in the sequence.
    pub position: u32,
    /// Blocks of the sequence in order. They cover every position of the chunk.
    pub blocks: Vec<BlockId>,
    /// Whether to return the logits after the last token.
    pub wants_logits: bool,
}

/// The work of one step: prefill and decode chunks of different sequences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// At most one chunk per sequence.
    pub chunks: Vec<Chunk>,
}

/// Logits of the chunks with [`Chunk::wants_logits`], in the order of the chunks.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    /// Width of a row.
    pub vocab_size: usize,
    /// Concatenated rows.
    pub values: Vec<f32>,
}

impl Logits {
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.vocab_size.max(1))
    }
}

/// How the hidden states of a text are reduced to its embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The hidden state of the last token.
    Last,
    /// The mean of the hidden states of all tokens.
    Mean,
}

/// Hidden states after the final norm, one row per chunk, in the order of the chunks.
#[derive(Debug, Clone, PartialEq)]
pub struct States {
    /// Width of a row.
    pub width: usize,
    /// Concatenated rows.
    pub values: Vec<f32>,
}

impl States {
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width.max(1))
    }
}

/// Failure of an engine step.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// The step failed and its sequences are lost. The engine remains usable.
    #[error("engine step failed: {0}")]
    Step(String),
    /// The device is lost and the worker must exit.
    #[error("device lost: {0}")]
    Device(String),
}

impl From<EngineError> for Diagnostic {
    fn from(error: EngineError) -> Self {
        Self::new(Code::Internal, error.to_string())
    }
}

/// Storage for keys and values in blocks of equal size. The scheduler decides which sequences
/// use a block; the storage only holds and copies the contents.
pub trait KvCache {
    fn block_tokens(&self) -> u32;
    fn blocks(&self) -> u32;
    /// Copies the contents of a block, for copy-on-write.
    fn copy(&mut self, from: BlockId, to: BlockId) -> Result<(), EngineError>;
}

/// A model on a device. It is owned by one thread.
pub trait Engine: Send {
    fn describe(&self) -> &ModelDescription;
    /// Computes one step: writes the keys and values of every chunk and returns the requested
    /// logits. The result for a chunk does not depend on the other chunks of the batch.
    fn step(&mut self, batch: &Batch) -> Result<Logits, EngineError>;
    /// Returns how the model pools embeddings, or `None` if it does not compute embeddings.
    fn pooling(&self) -> Option<Pooling> {
        None
    }
    /// Computes one step for embeddings. Works as [`Self::step`] but returns a row for every
    /// chunk: the state of its last token or, with [`Pooling::Mean`], the sum over its tokens.
    fn embed(&mut self, _batch: &Batch) -> Result<States, EngineError> {
        let message = "the model does not compute embeddings";
        Err(EngineError::Step(message.into()))
    }
    fn kv(&mut self) -> &mut dyn KvCache;
}
