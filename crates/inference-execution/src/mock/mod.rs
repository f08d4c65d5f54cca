//! An engine without a model: its answers are words chosen by the prompt, one byte a token.
//! It keeps the tokens in its KV blocks and answers from what it reads there, so a wrong
//! block gives a wrong text. Speed, size and faults are settings.

mod echo;
mod settings;
mod words;

pub use settings::{Fault, Manner, MockSettings};

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use diagnostics::{Code, Diagnostic};
use text_codec::Codec;

use crate::{
    Batch, BlockId, Chunk, Engine, EngineError, KvCache, Logits, ModelDescription, Pooling, States,
};

const BLOCK_TOKENS: u32 = 16;
/// Numbers in a vector.
const VECTOR_WIDTH: usize = 16;
/// How far the other tokens are below the chosen one: at temperature 1 all of them together
/// come once in 10^15 tokens, at high temperatures they do come.
const OTHERS: f32 = -40.0;
/// What `memory_mb` is allocated in.
const CHUNK_BYTES: usize = 1 << 20;

/// The engine.
pub struct MockEngine {
    settings: MockSettings,
    description: ModelDescription,
    cache: TokenCache,
    /// Tokens of the sequence that is just looked at.
    tokens: Vec<u32>,
    generated: u64,
    /// Held only to be held.
    #[expect(dead_code, reason = "memory that is taken is its whole purpose")]
    memory: Vec<Vec<u8>>,
}

impl MockEngine {
    /// An engine that is loaded at once; faults of loading do not apply.
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

    /// Loads as the settings say: takes its time, its memory, or fails. `progress` is told
    /// bytes done and in all.
    pub fn load(
        settings: MockSettings,
        progress: &dyn Fn(u64, u64),
    ) -> Result<(Self, Codec), Diagnostic> {
        const STEPS: u32 = 10;
        for step in 0..STEPS {
            progress(u64::from(step), u64::from(STEPS));
            wait(settings.load / STEPS);
        }
        if settings.fail == Some(Fault::Load) {
            return Err(Diagnostic::new(
                Code::InvalidModelFile,
                "the mock engine was told to fail at loading",
            ));
        }
        // Written, not only reserved: the system then really gives the memory.
        let memory = (0..settings.memory_mb)
            .map(|_| vec![1; CHUNK_BYTES])
            .collect();
        progress(u64::from(STEPS), u64::from(STEPS));
        Ok((Self::with_memory(settings, memory), Codec::byte_level()))
    }

    fn fault(&self) -> Result<(), EngineError> {
        let reached = |limit: Option<u64>| limit.is_some_and(|n| self.generated >= n);
        if reached(self.settings.crash_after) {
            std::process::abort();
        }
        if reached(self.settings.stall_after) {
            wait(Duration::MAX);
        }
        match self.settings.fail {
            Some(Fault::Step) => Err(EngineError::Step("told to".into())),
            Some(Fault::Device) => Err(EngineError::Device("told to".into())),
            #[expect(clippy::panic, reason = "the fault that is asked for")]
            Some(Fault::Panic) => panic!("told to"),
            Some(Fault::Load) | None => Ok(()),
        }
    }
}

impl Engine for MockEngine {
    fn describe(&self) -> &ModelDescription {
        &self.description
    }

    fn step(&mut self, batch: &Batch) -> Result<Logits, EngineError> {
        self.fault()?;
        wait(self.settings.step);
        let vocab_size = words::VOCAB_SIZE as usize;
        let mut values = Vec::new();
        for chunk in &batch.chunks {
            self.cache.write(chunk)?;
            if chunk.wants_logits {
                self.cache.read(chunk, &mut self.tokens)?;
                let tokens = &self.tokens;
                let next = match self.settings.answer {
                    Manner::Words => words::next(tokens, self.settings.length as usize),
                    Manner::Echo => echo::next(tokens),
                };
                let row = values.len();
                values.resize(row + vocab_size, OTHERS);
                values[row + next as usize] = 0.0;
                self.generated += 1;
            }
        }
        Ok(Logits { vocab_size, values })
    }

    fn pooling(&self) -> Option<Pooling> {
        Some(Pooling::Last)
    }

    /// How often each byte comes, folded, and where.
    fn embed(&mut self, batch: &Batch) -> Result<States, EngineError> {
        self.fault()?;
        wait(self.settings.step);
        let (mut values, mut tokens) = (Vec::new(), Vec::new());
        for chunk in &batch.chunks {
            self.cache.write(chunk)?;
            let mut row = [0.0_f32; VECTOR_WIDTH];
            self.cache.read(chunk, &mut tokens)?;
            for (position, token) in tokens.iter().enumerate() {
                row[(*token as usize + position) % VECTOR_WIDTH] += 1.0;
            }
            values.extend_from_slice(&row);
        }
        Ok(States {
            width: VECTOR_WIDTH,
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
    fn place(&self, chunk: &Chunk, position: u32) -> Result<usize, EngineError> {
        let block = chunk.blocks.get((position / BLOCK_TOKENS) as usize);
        let place = block.map(|b| (b.0 * BLOCK_TOKENS + position % BLOCK_TOKENS) as usize);
        place
            .filter(|place| *place < self.tokens.len())
            .ok_or_else(|| EngineError::Step(format!("no block for position {position}")))
    }

    fn write(&mut self, chunk: &Chunk) -> Result<(), EngineError> {
        for (position, token) in (chunk.position..).zip(&chunk.tokens) {
            let place = self.place(chunk, position)?;
            self.tokens[place] = *token;
        }
        Ok(())
    }

    /// All tokens of a sequence up to the chunk's last, into `tokens`.
    fn read(&self, chunk: &Chunk, tokens: &mut Vec<u32>) -> Result<(), EngineError> {
        tokens.clear();
        let end = chunk.position + chunk.tokens.len() as u32;
        for start in (0..end).step_by(BLOCK_TOKENS as usize) {
            let place = self.place(chunk, start)?;
            let count = (end - start).min(BLOCK_TOKENS) as usize;
            // A block that has its first place has all of them.
            tokens.extend_from_slice(&self.tokens[place..place + count]);
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
            return Err(EngineError::Step("no such block".into()));
        }
        let size = BLOCK_TOKENS as usize;
        let start = from.0 as usize * size;
        self.tokens
            .copy_within(start..start + size, to.0 as usize * size);
        Ok(())
    }
}

/// Lets the mock device's time pass.
fn wait(duration: Duration) {
    let (lock, never) = (Mutex::new(()), Condvar::new());
    let end = Instant::now().checked_add(duration);
    let mut guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        // Far beyond any run, for a wait without an end.
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
