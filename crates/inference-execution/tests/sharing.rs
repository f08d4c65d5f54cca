//! Shared prefixes are computed once, and no sequence reads a block of another prefix.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use inference_execution::{
    Batch, BlockId, Chunk, Engine, EngineError, KvCache, Logits, ModelDescription, Runtime,
    RuntimeConfig,
};
use proptest::prelude::*;
use text_codec::Codec;
use worker_contract::{InferInput, InferRequest, SamplingValues, StreamEvent, Usage};

const BLOCK_TOKENS: u32 = 16;
const VOCAB_SIZE: usize = 257;

/// Stands for the keys and values of a token, which depend on it and on all tokens before it.
fn content(before: u64, token: u32) -> u64 {
    (before ^ u64::from(token))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
        .wrapping_add(1)
}

/// An engine whose cache holds what a model's keys and values depend on. It fails when a sequence
/// reads a slot with the contents of another prefix. Its output is a function of everything that
/// it reads.
struct CheckingEngine {
    description: ModelDescription,
    cache: Cache,
    computed: Arc<AtomicU64>,
}

struct Cache(Vec<(u32, u64)>);

impl Cache {
    /// Returns the slot of a position.
    fn slot(&self, chunk: &Chunk, position: u32) -> Result<usize, EngineError> {
        let block = chunk.blocks.get((position / BLOCK_TOKENS) as usize);
        let slot = block.map(|b| (b.0 * BLOCK_TOKENS + position % BLOCK_TOKENS) as usize);
        let missing = || EngineError::Device(format!("no slot for position {position}"));
        slot.filter(|slot| *slot < self.0.len()).ok_or_else(missing)
    }

    /// Writes the chunk. Returns the contents of the slot of its last token.
    fn compute(&mut self, chunk: &Chunk) -> Result<u64, EngineError> {
        let mut before = 0;
        for position in 0..chunk.position + chunk.tokens.len() as u32 {
            let slot = self.slot(chunk, position)?;
            let own = position.checked_sub(chunk.position);
            if let Some(token) = own.map(|i| chunk.tokens[i as usize]) {
                self.0[slot] = (token, content(before, token));
            }
            let (token, found) = self.0[slot];
            before = content(before, token);
            if found != before {
                let message = format!("wrong contents at {position} of {:?}", chunk.sequence);
                return Err(EngineError::Device(message));
            }
        }
        Ok(before)
    }
}

impl KvCache for Cache {
    fn block_tokens(&self) -> u32 {
        BLOCK_TOKENS
    }

    fn blocks(&self) -> u32 {
        self.0.len() as u32 / BLOCK_TOKENS
    }

    fn copy(&mut self, from: BlockId, to: BlockId) -> Result<(), EngineError> {
        let start = (from.0 * BLOCK_TOKENS) as usize;
        let to = (to.0 * BLOCK_TOKENS) as usize;
        self.0.copy_within(start..start + BLOCK_TOKENS as usize, to);
        Ok(())
    }
}

impl Engine for CheckingEngine {
    fn describe(&self) -> &ModelDescription {
        &self.description
    }

    fn step(&mut self, batch: &Batch) -> Result<Logits, EngineError> {
        let mut values = Vec::new();
        for chunk in &batch.chunks {
            let last = self.cache.compute(chunk)?;
            self.computed.fetch_add(chunk.tokens.len() as u64, SeqCst);
            if chunk.wants_logits {
                let next = last as usize % 256;
                values.extend((0..VOCAB_SIZE).map(|id| if id == next { 0.0 } else { -9.0 }));
            }
        }
        Ok(Logits {
            vocab_size: VOCAB_SIZE,
            values,
        })
    }

    fn kv(&mut self) -> &mut dyn KvCache {
        &mut self.cache
    }
}

/// Returns a runtime and the number of tokens that its engine has computed.
fn runtime(slots: u32, blocks: u32, prefix_cache: bool) -> (Runtime, Arc<AtomicU64>) {
    let computed = Arc::new(AtomicU64::new(0));
    let engine = CheckingEngine {
        description: ModelDescription {
            architecture: "checking".into(),
            layers: 1,
            vocab_size: VOCAB_SIZE as u32,
            context_length: 4096,
            quantization: "none".into(),
            weight_bytes: 0,
            parameters: 0,
            sampling: SamplingValues::default(),
        },
        cache: Cache(vec![(0, 0); (blocks * BLOCK_TOKENS) as usize]),
        computed: computed.clone(),
    };
    let config = RuntimeConfig {
        prefix_cache,
        queue: 64,
        ..RuntimeConfig::new("mock:checking".parse().unwrap(), slots)
    };
    let codec = Arc::new(Codec::byte_level());
    let runtime = Runtime::start(Box::new(engine), codec, config).unwrap();
    (runtime, computed)
}

fn request(id: &str, tokens: Vec<u32>, max_tokens: u32) -> InferRequest {
    let mut request = InferRequest::new(id.parse().unwrap(), InferInput::Tokens(tokens));
    request.max_tokens = Some(max_tokens);
    request.sampling.values.temperature = Some(0.0);
    request
}

#[derive(Debug, PartialEq)]
struct Collected {
    tokens: Vec<u32>,
    cached_at_start: u32,
    usage: Usage,
}

/// Submits all requests at once and waits for all of them.
fn run(runtime: &Runtime, requests: Vec<InferRequest>) -> Vec<Collected> {
    let submit = |request| runtime.submit(request).unwrap();
    let streams: Vec<_> = requests.into_iter().map(submit).collect();
    let mut all = Vec::new();
    for mut stream in streams {
        let mut collected = Collected {
            tokens: Vec::new(),
            cached_at_start: 0,
            usage: Usage::default(),
        };
        while let Some(event) = stream.blocking_recv() {
            match event {
                StreamEvent::Started(started) => collected.cached_at_start = started.cached_tokens,
                StreamEvent::Token(token) => collected.tokens.push(token.id),
                StreamEvent::Metrics(_) => {}
                StreamEvent::End(end) => collected.usage = end.usage,
                StreamEvent::Error(error) => panic!("{error}"),
            }
        }
        all.push(collected);
    }
    all
}

fn system_prompt() -> Vec<u32> {
    (0..1000).map(|i| (i * 7 + i / 256) % 256).collect()
}

#[test]
fn shared_system_prompt_is_computed_once_for_twenty_requests() {
    let (runtime, computed) = runtime(20, 400, true);
    let requests = (0..20)
        .map(|i| {
            let mut tokens = system_prompt();
            tokens.extend([200 + i; 10]);
            request(&format!("r{i}"), tokens, 1)
        })
        .collect();
    let all = run(&runtime, requests);
    let computed = computed.load(SeqCst);
    let mut cached = 0;
    for (i, collected) in all.iter().enumerate() {
        assert_eq!(collected.usage.prompt_tokens, 1010);
        assert_eq!(collected.usage.cached_tokens, collected.cached_at_start);
        assert!(
            i == 0 || collected.usage.cached_tokens >= 992,
            "{collected:?}"
        );
        cached += u64::from(collected.usage.cached_tokens);
    }
    assert_eq!(
        computed + cached,
        20 * 1010,
        "every token is either cached or computed"
    );
    // 1000 tokens are 62 blocks of 16 and 8 more tokens, which several requests may compute.
    assert!(
        computed <= 1000 + 20 * (10 + 8),
        "{computed} tokens computed"
    );
    assert_eq!(runtime.counts().cached_tokens, cached);
    // Cached blocks do not count as used.
    assert_eq!(runtime.status().kv_cache.used, 0);
}

#[test]
fn choices_compute_their_prompt_once() {
    let (runtime, computed) = runtime(4, 400, true);
    let requests = (0..4)
        .map(|choice| {
            let mut request = request(&format!("r{choice}"), system_prompt(), 1);
            request.sampling.choice = choice;
            request
        })
        .collect();
    let all = run(&runtime, requests);
    assert!(all.iter().all(|c| c.tokens == all[0].tokens));
    // The last block has 8 of 16 tokens and cannot be shared.
    assert!(computed.load(SeqCst) <= 1000 + 3 * 8);
}

#[test]
fn without_prefix_cache_every_request_computes_its_prompt() {
    let (runtime, computed) = runtime(4, 400, false);
    for round in 0..2 {
        let all = run(&runtime, vec![request("r", system_prompt(), 1)]);
        assert_eq!(all[0].usage.cached_tokens, 0);
        assert_eq!(computed.load(SeqCst), 1000 * (round + 1));
    }
}

#[test]
fn next_turn_of_a_chat_computes_only_new_tokens() {
    let (runtime, computed) = runtime(1, 100, true);
    let mut chat: Vec<u32> = (0..40).collect();
    let first = run(&runtime, vec![request("first", chat.clone(), 30)]).remove(0);
    chat.extend(&first.tokens);
    chat.extend([1, 2, 3]);
    let before = computed.load(SeqCst);
    let second = run(&runtime, vec![request("second", chat.clone(), 1)]).remove(0);
    // 69 tokens were computed: 4 full blocks.
    assert_eq!(second.usage.cached_tokens, 64);
    assert_eq!(computed.load(SeqCst) - before, chat.len() as u64 - 64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// The output is the same with and without a prefix cache, whatever was computed before or
    /// at the same time. The KV cache is small, so that blocks are evicted frequently.
    #[test]
    fn prefix_cache_does_not_change_the_output(
        prompts in prop::collection::vec((0..3_u32, 0..70_usize, 0..20_u32), 1..24),
    ) {
        let (cold, _) = runtime(1, 20, false);
        let (warm, _) = runtime(6, 20, true);
        let requests: Vec<InferRequest> = (0..)
            .zip(prompts)
            .map(|(i, (family, shared, own))| {
                let shared = (0..=shared as u32).map(|n| family + n % 5);
                let tokens = shared.chain((0..own).map(|n| n % 2)).collect();
                request(&format!("r{i}"), tokens, 1 + own * 4)
            })
            .collect();
        let expected: Vec<Vec<u32>> = requests
            .iter()
            .map(|request| run(&cold, vec![request.clone()]).remove(0).tokens)
            .collect();
        for _ in 0..2 {
            let tokens: Vec<Vec<u32>> =
                run(&warm, requests.clone()).into_iter().map(|a| a.tokens).collect();
            prop_assert_eq!(&tokens, &expected);
        }
        prop_assert_eq!(warm.status().kv_cache.used, 0);
    }
}
