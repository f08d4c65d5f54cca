//! The embedded model, its golden cases, and a greedy decoder.

use std::path::{Path, PathBuf};

use engine_candle::{CandleEngine, ComputeDevice, LoadOptions, LoadedModel, load};
use inference_execution::{Batch, BlockId, Chunk, Engine, SequenceId};
use serde::Deserialize;
use worker_contract::Message;

pub fn haiku() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/haiku")
}

pub fn f16_file() -> PathBuf {
    haiku().join("rbee-haiku-tiny-f16.gguf")
}

pub fn q8_file() -> PathBuf {
    haiku().join("rbee-haiku-tiny-q8_0.gguf")
}

pub fn open(path: &Path) -> LoadedModel {
    open_with(path, 1)
}

/// Opens the model with the operations of GPUs.
pub fn open_tensors(path: &Path) -> LoadedModel {
    let options = LoadOptions {
        device: ComputeDevice::CpuTensors,
        ..LoadOptions::default()
    };
    load(path, options).unwrap()
}

pub fn open_with(path: &Path, threads: usize) -> LoadedModel {
    let options = LoadOptions {
        threads: Some(threads),
        ..LoadOptions::default()
    };
    load(path, options).unwrap()
}

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
pub struct Case {
    pub messages: Vec<Message>,
    pub prompt_ids: Vec<u32>,
    pub output_ids: Vec<u32>,
    pub output_text: String,
    pub top5_first3: Vec<Vec<Top>>,
}

#[derive(Deserialize)]
pub struct Top {
    pub id: u32,
    pub logprob: f32,
}

pub fn golden() -> Vec<Case> {
    let json = std::fs::read(haiku().join("golden.json")).unwrap();
    let golden: Golden = serde_json::from_slice(&json).unwrap();
    assert_eq!(golden.cases.len(), 20);
    golden.cases
}

/// A sequence that is decoded greedily until the end token.
pub struct Run {
    id: u64,
    tokens: Vec<u32>,
    prompt: usize,
    computed: usize,
    blocks: Vec<BlockId>,
    /// Logits of each generated token.
    pub logits: Vec<Vec<f32>>,
}

impl Run {
    pub fn new(id: u64, prompt: &[u32], blocks: &[u32]) -> Self {
        Self {
            id,
            tokens: prompt.to_vec(),
            prompt: prompt.len(),
            computed: 0,
            blocks: blocks.iter().map(|&b| BlockId(b)).collect(),
            logits: Vec::new(),
        }
    }

    pub fn output(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }

    fn is_finished(&self) -> bool {
        self.output().last() == Some(&2) || self.output().len() == 64
    }

    /// Returns up to `size` tokens to compute next.
    fn chunk(&self, size: usize) -> Chunk {
        let end = self.tokens.len().min(self.computed.saturating_add(size));
        Chunk {
            sequence: SequenceId(self.id),
            tokens: self.tokens[self.computed..end].to_vec(),
            position: self.computed as u32,
            blocks: self.blocks.clone(),
            wants_logits: end == self.tokens.len(),
        }
    }

    fn take(&mut self, chunk: &Chunk, logits: Option<Vec<f32>>) {
        self.computed += chunk.tokens.len();
        if let Some(logits) = logits {
            self.tokens.push(best(&logits));
            self.logits.push(logits);
        }
    }
}

/// Decodes all runs in one batch; `size` returns the chunk size for a step and a run.
pub fn decode(engine: &mut CandleEngine, runs: &mut [Run], size: impl Fn(usize, u64) -> usize) {
    for step in 0.. {
        let mut active: Vec<&mut Run> = runs.iter_mut().filter(|r| !r.is_finished()).collect();
        if active.is_empty() {
            return;
        }
        let chunks: Vec<Chunk> = active.iter().map(|r| r.chunk(size(step, r.id))).collect();
        let batch = Batch { chunks };
        let logits = engine.step(&batch).unwrap();
        let mut rows = logits.rows();
        for (run, chunk) in active.iter_mut().zip(&batch.chunks) {
            let row = chunk.wants_logits.then(|| rows.next().unwrap().to_vec());
            run.take(chunk, row);
        }
        assert!(rows.next().is_none());
    }
}

/// Decodes a single sequence, with the prompt in one step.
pub fn decode_unbatched(engine: &mut CandleEngine, prompt: &[u32]) -> Run {
    let mut runs = [Run::new(0, prompt, &[0, 1, 2, 3, 4, 5, 6, 7])];
    decode(engine, &mut runs, |_, _| usize::MAX);
    let [run] = runs;
    run
}

pub fn best(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.unwrap().0 as u32
}

pub fn logprobs(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|l| f64::from(l - largest).exp()).sum();
    let log_sum = sum.ln() as f32 + largest;
    logits.iter().map(|l| l - log_sum).collect()
}
