use diagnostics::{Code, Diagnostic};

/// What a loaded model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelDescription {
    /// Family: `llama`.
    pub architecture: String,
    /// Transformer blocks.
    pub layers: u32,
    /// Logits per row.
    pub vocab_size: u32,
    /// Longest sequence, prompt and answer together, in tokens.
    pub context_length: u32,
    /// Weight type: `F16`, `Q8_0`.
    pub quantization: String,
    /// Memory that the weights take.
    pub weight_bytes: u64,
    /// Weights, counted.
    pub parameters: u64,
}

/// A sequence as the engine knows it; never reused in one process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

/// A block of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

/// Consecutive tokens of one sequence: a piece of a prefill, or the one token of a decode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Whose tokens.
    pub sequence: SequenceId,
    /// The tokens; never empty.
    pub tokens: Vec<u32>,
    /// Position of the first token in its sequence.
    pub position: u32,
    /// Blocks of the sequence, in order; they have room for every position of the chunk.
    pub blocks: Vec<BlockId>,
    /// Whether the logits after the last token are wanted.
    pub wants_logits: bool,
}

/// One step: prefill chunks and decode rows of different sequences together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// At most one chunk a sequence.
    pub chunks: Vec<Chunk>,
}

/// Logits of the chunks that wanted them, in the order of the chunks.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    /// Width of a row.
    pub vocab_size: usize,
    /// Rows one after the other.
    pub values: Vec<f32>,
}

impl Logits {
    /// The rows.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.vocab_size.max(1))
    }
}

/// How the states of a text become its vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The state of the last token.
    Last,
    /// The mean of all tokens' states.
    Mean,
}

/// States after the final norm, one row for each chunk, in the order of the chunks.
#[derive(Debug, Clone, PartialEq)]
pub struct States {
    /// Numbers in a row.
    pub width: usize,
    /// Rows one after the other.
    pub values: Vec<f32>,
}

impl States {
    /// The rows.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width.max(1))
    }
}

/// The engine could not do a step.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// The step failed; its sequences are lost, the engine goes on.
    #[error("the engine failed: {0}")]
    Step(String),
    /// The device is gone; the worker must end.
    #[error("the device is lost: {0}")]
    Device(String),
}

impl From<EngineError> for Diagnostic {
    fn from(error: EngineError) -> Self {
        Self::new(Code::Internal, error.to_string())
    }
}

/// Storage of keys and values in blocks of equal size. Which block belongs to whom is the
/// scheduler's business ([`crate::BlockPool`]); the storage only holds and copies.
pub trait KvCache {
    /// Tokens in a block.
    fn block_tokens(&self) -> u32;
    /// Blocks there are.
    fn blocks(&self) -> u32;
    /// Copies a block's content, for copy-on-write.
    fn copy(&mut self, from: BlockId, to: BlockId) -> Result<(), EngineError>;
}

/// A model on a device. One thread owns it.
pub trait Engine: Send {
    /// What is loaded.
    fn describe(&self) -> &ModelDescription;
    /// Computes one step: writes keys and values of every chunk, returns the wanted logits.
    /// The result of a chunk does not depend on what else is in the batch.
    fn step(&mut self, batch: &Batch) -> Result<Logits, EngineError>;
    /// How the model makes vectors of texts; `None` when it does not.
    fn pooling(&self) -> Option<Pooling> {
        None
    }
    /// Computes one step of texts that become vectors: as [`Self::step`], but every chunk
    /// gives a row, of its last token or, by [`Pooling::Mean`], the sum over its tokens.
    fn embed(&mut self, _batch: &Batch) -> Result<States, EngineError> {
        Err(EngineError::Step("the model makes no vectors".into()))
    }
    /// Its KV cache.
    fn kv(&mut self) -> &mut dyn KvCache;
}
