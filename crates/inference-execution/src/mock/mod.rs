//! An engine without a model. Its output is words that depend on the prompt, one byte per token.
//! It stores the tokens in its KV cache and derives the output from what it reads there, so that
//! a wrong block results in a wrong text. Speed, size and faults are configurable.

mod call;
mod echo;
mod settings;
mod think;
mod words;

pub use settings::{MockFault, MockOutput, MockSettings};

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use diagnostics::Diagnostic;
use text_codec::Codec;
use worker_contract::SamplingValues;

use crate::{
    engine::{
        Batch, BlockId, Chunk, Engine, EngineError, KvCache, Logits, ModelDescription, Pooling,
        States,
    },
    errors,
};

const BLOCK_TOKENS: u32 = 16;
/// Number of components of an embedding.
const EMBEDDING_WIDTH: usize = 16;
/// Logit of every token but the intended one, whose logit is 0. At temperature 1 the others are
/// sampled once in 10^15 tokens, at high temperatures regularly.
const OTHER_LOGIT: f32 = -40.0;
/// Size of the allocations for `memory_mb`.
const CHUNK_BYTES: usize = 1 << 20;

/// An engine that computes nothing.
pub struct MockEngine {
    settings: MockSettings,
    description: ModelDescription,
    cache: TokenCache,
    /// Buffer for the tokens of a sequence.
    tokens: Vec<u32>,
    /// Number of rows of logits returned so far.
    generated: u64,
    #[expect(dead_code, reason = "held to occupy memory")]
    memory: Vec<Vec<u8>>,
}

impl MockEngine {
    /// Returns a loaded engine. Settings that affect loading are ignored.
    pub fn new(settings: MockSettings) -> Self {
        Self::with_memory(settings, Vec::new())
    }

    fn with_memory(settings: MockSettings, memory: Vec<Vec<u8>>) -> Self {
        let tokens = settings
            .kv_tokens
            .unwrap_or_else(|| settings.context.saturating_mul(settings.slots));
        let blocks = tokens.div_ceil(BLOCK_TOKENS);
        Self {
            description: ModelDescription {
                architecture: "mock".into(),
                layers: 0,
                vocab_size: words::VOCAB_SIZE,
                context_length: settings.context,
                quantization: "none".into(),
                weight_bytes: u64::from(settings.memory_mb) << 20,
                parameters: 0,
                sampling: SamplingValues {
                    temperature: settings.temperature,
                    ..SamplingValues::default()
                },
            },
            cache: TokenCache {
                tokens: vec![0; (blocks * BLOCK_TOKENS) as usize],
                blocks,
            },
            tokens: Vec::new(),
            generated: 0,
            memory,
            settings,
        }
    }

    /// Loads an engine as the settings specify. Calls `progress` with the steps done and the
    /// total.
    ///
    /// Errors: `INVALID_MODEL_FILE` if the settings have the fault `load`.
    pub fn load(
        settings: MockSettings,
        progress: &dyn Fn(u64, u64),
    ) -> Result<(Self, Codec), Diagnostic> {
        const STEPS: u32 = 10;
        for step in 0..STEPS {
            progress(u64::from(step), u64::from(STEPS));
            wait(settings.load / STEPS);
        }
        if settings.fail == Some(MockFault::Load) {
            return Err(errors::mock_load_fault());
        }
        // Nonzero, so that the memory is resident and not only reserved.
        let memory = (0..settings.memory_mb)
            .map(|_| vec![1; CHUNK_BYTES])
            .collect();
        progress(u64::from(STEPS), u64::from(STEPS));
        let codec = match settings.output {
            MockOutput::Words | MockOutput::Echo | MockOutput::Call => Codec::byte_level(),
            MockOutput::Think => Codec::byte_level_with_reasoning(false),
            MockOutput::ThinkOpened => Codec::byte_level_with_reasoning(true),
        };
        Ok((Self::with_memory(settings, memory), codec))
    }

    /// Triggers the faults that are due.
    fn trigger_faults(&self) -> Result<(), EngineError> {
        const REQUESTED: &str = "requested by the mock engine's settings";
        let reached = |limit: Option<u64>| limit.is_some_and(|n| self.generated >= n);
        if reached(self.settings.crash_after) {
            std::process::abort();
        }
        if reached(self.settings.stall_after) {
            wait(Duration::MAX);
        }
        match self.settings.fail {
            Some(MockFault::Step) => Err(EngineError::Step(REQUESTED.into())),
            Some(MockFault::Device) => Err(EngineError::Device(REQUESTED.into())),
            #[expect(clippy::panic, reason = "requested by the settings")]
            Some(MockFault::Panic) => panic!("{REQUESTED}"),
            Some(MockFault::Load) | None => Ok(()),
        }
    }
}

impl Engine for MockEngine {
    fn describe(&self) -> &ModelDescription {
        &self.description
    }

    fn step(&mut self, batch: &Batch) -> Result<Logits, EngineError> {
        self.trigger_faults()?;
        wait(self.settings.step);
        let vocab_size = words::VOCAB_SIZE as usize;
        let mut values = Vec::new();
        for chunk in &batch.chunks {
            self.cache.write(chunk)?;
            if chunk.wants_logits {
                self.cache.read(chunk, &mut self.tokens)?;
                let tokens = &self.tokens;
                let row = values.len();
                values.resize(row + vocab_size, OTHER_LOGIT);
                let next = match self.settings.output {
                    MockOutput::Words => words::next(tokens, self.settings.length as usize),
                    MockOutput::Echo => echo::next(tokens),
                    MockOutput::Think | MockOutput::ThinkOpened => think::next(tokens),
                    MockOutput::Call => {
                        call::write_logits(tokens, &mut values[row..]);
                        self.generated += 1;
                        continue;
                    }
                };
                values[row + next as usize] = 0.0;
                self.generated += 1;
            }
        }
        Ok(Logits { vocab_size, values })
    }

    fn pooling(&self) -> Option<Pooling> {
        Some(Pooling::Last)
    }

    /// Returns a histogram of the sums of token and position.
    fn embed(&mut self, batch: &Batch) -> Result<States, EngineError> {
        self.trigger_faults()?;
        wait(self.settings.step);
        let (mut values, mut tokens) = (Vec::new(), Vec::new());
        for chunk in &batch.chunks {
            self.cache.write(chunk)?;
            let mut row = [0.0_f32; EMBEDDING_WIDTH];
            self.cache.read(chunk, &mut tokens)?;
            for (position, token) in tokens.iter().enumerate() {
                row[(*token as usize + position) % EMBEDDING_WIDTH] += 1.0;
            }
            values.extend_from_slice(&row);
        }
        Ok(States {
            width: EMBEDDING_WIDTH,
            values,
        })
    }

    fn kv(&mut self) -> &mut dyn KvCache {
        &mut self.cache
    }
}

/// A KV cache that holds the tokens themselves.
struct TokenCache {
    tokens: Vec<u32>,
    blocks: u32,
}

impl TokenCache {
    /// Returns the index of a position in `tokens`.
    fn index(&self, chunk: &Chunk, position: u32) -> Result<usize, EngineError> {
        let block = chunk.blocks.get((position / BLOCK_TOKENS) as usize);
        let index = block.map(|b| (b.0 * BLOCK_TOKENS + position % BLOCK_TOKENS) as usize);
        index
            .filter(|index| *index < self.tokens.len())
            .ok_or_else(|| EngineError::Step(format!("no block for position {position}")))
    }

    fn write(&mut self, chunk: &Chunk) -> Result<(), EngineError> {
        for (position, token) in (chunk.position..).zip(&chunk.tokens) {
            let index = self.index(chunk, position)?;
            self.tokens[index] = *token;
        }
        Ok(())
    }

    /// Reads the tokens of a sequence, up to the last one of the chunk, into `tokens`.
    fn read(&self, chunk: &Chunk, tokens: &mut Vec<u32>) -> Result<(), EngineError> {
        tokens.clear();
        let end = chunk.position + chunk.tokens.len() as u32;
        for start in (0..end).step_by(BLOCK_TOKENS as usize) {
            let index = self.index(chunk, start)?;
            let count = (end - start).min(BLOCK_TOKENS) as usize;
            tokens.extend_from_slice(&self.tokens[index..index + count]);
        }
        Ok(())
    }
}

impl KvCache for TokenCache {
    fn block_tokens(&self) -> u32 {
        BLOCK_TOKENS
    }

    fn blocks(&self) -> u32 {
        self.blocks
    }

    fn copy(&mut self, from: BlockId, to: BlockId) -> Result<(), EngineError> {
        if from.0.max(to.0) >= self.blocks {
            return Err(EngineError::Step(format!(
                "no block {} in the KV cache",
                from.0.max(to.0)
            )));
        }
        let size = BLOCK_TOKENS as usize;
        let start = from.0 as usize * size;
        self.tokens
            .copy_within(start..start + size, to.0 as usize * size);
        Ok(())
    }
}

/// Blocks for the time that a device would take.
fn wait(duration: Duration) {
    let (lock, never) = (Mutex::new(()), Condvar::new());
    let end = Instant::now().checked_add(duration);
    let mut guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        // Waits without an end wait repeatedly.
        let left = end.map_or(Duration::from_secs(3600), |end| {
            end.saturating_duration_since(Instant::now())
        });
        if left.is_zero() {
            return;
        }
        guard = never
            .wait_timeout(guard, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}
