use diagnostics::Diagnostic;
use inference_execution::{Batch, BlockId, Chunk, Engine as _, SequenceId};
use model_format::{Biases, ModelFormat, ModelHeader, RopeScaling, TensorType};

use crate::{
    engine::CandleEngine,
    load::{LoadOptions, build},
    tensor_names::{LayerPart, Part, TensorNames},
    weights::RawTensor,
};

/// The prompt of the test.
const PROMPT: [u32; 21] = [
    5, 17, 3, 60, 41, 2, 9, 33, 21, 7, 50, 12, 63, 0, 28, 19, 44, 8, 31, 5, 5,
];
/// Logits of the first tokens of the vocabulary after the prompt, by the reference in this
/// module's tests.
const EXPECTED_F32: [f32; 6] = [
    -1.255_407_4,
    -1.761_403_1,
    0.360_931_96,
    -0.568_140_1,
    -0.649_212_24,
    1.922_336_4,
];
const EXPECTED_Q8_0: [f32; 6] = [
    -1.238_221_9,
    -1.640_541_9,
    0.321_809_7,
    -0.673_190_8,
    -0.601_639_45,
    1.851_834_2,
];
/// Sums in another order differ in the last digits.
const TOLERANCE_F32: f32 = 2e-4;
/// Activations are rounded to 8 bits, now and then to the neighbour of the reference's.
const TOLERANCE_Q8_0: f32 = 1e-2;

/// Checks the engine on this machine: a tiny model made in memory must give known logits,
/// in 32-bit floats and in Q8_0, and the same ones bit for bit in pieces and in company.
pub fn self_test() -> Result<(), Diagnostic> {
    for (kind, expected, tolerance) in [
        (TensorType::F32, EXPECTED_F32, TOLERANCE_F32),
        (TensorType::Q8_0, EXPECTED_Q8_0, TOLERANCE_Q8_0),
    ] {
        let whole = logits(&mut tiny_engine(kind)?, &[21])?;
        for (token, (found, expected)) in whole.iter().zip(expected).enumerate() {
            if (found - expected).abs() > tolerance {
                return Err(Diagnostic::internal(format!(
                    "self-test in {}: logit {token} is {found}, expected {expected}",
                    kind.name()
                ))
                .hint("this build computes wrongly on this processor: report it"));
            }
        }
        let pieces = logits(&mut tiny_engine(kind)?, &[1, 15, 3, 2])?;
        if pieces != whole {
            return Err(Diagnostic::internal(format!(
                "self-test in {}: a prompt in pieces gives other logits than the whole",
                kind.name()
            ))
            .hint("this build computes wrongly on this processor: report it"));
        }
    }
    Ok(())
}

/// The logits after the prompt, fed in chunks of these sizes beside another sequence.
fn logits(engine: &mut CandleEngine, sizes: &[usize]) -> Result<Vec<f32>, Diagnostic> {
    let chunk = |sequence, tokens: &[u32], position: usize, blocks: &[u32], wants_logits| Chunk {
        sequence: SequenceId(sequence),
        tokens: tokens.to_vec(),
        position: position as u32,
        blocks: blocks.iter().map(|&b| BlockId(b)).collect(),
        wants_logits,
    };
    let mut position = 0;
    let mut last = Vec::new();
    for &size in sizes {
        let tokens = &PROMPT[position..position + size];
        let company = &PROMPT[..sizes.len()];
        let batch = Batch {
            chunks: vec![
                chunk(1, company, 0, &[2], false),
                chunk(2, tokens, position, &[3, 0], true),
            ],
        };
        last = engine.step(&batch)?.values;
        position += size;
    }
    Ok(last)
}

/// The header of the tiny model.
pub(crate) fn tiny_header() -> ModelHeader {
    ModelHeader {
        format: ModelFormat::Safetensors,
        name: None,
        architecture: "llama".to_owned(),
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        embedding_length: 64,
        feed_forward_length: 96,
        vocab_size: 64,
        context_length: 64,
        rope_theta: 10_000.0,
        rope_local_theta: None,
        rope_dimensions: 16,
        rope_scaling: RopeScaling::None,
        sliding_window: None,
        causal: true,
        attention_scale: None,
        attention_softcap: None,
        logit_softcap: None,
        experts: None,
        biases: Biases::default(),
        activation: None,
        rms_epsilon: Some(1e-5),
        tied_embeddings: false,
        quantization: String::new(),
        parameters: 0,
        weight_bytes: 0,
    }
}

fn tiny_engine(kind: TensorType) -> Result<CandleEngine, Diagnostic> {
    let tensors = tiny_tensors(kind);
    let raw = tensors
        .iter()
        .map(|t| {
            let tensor = RawTensor {
                shape: t.shape.clone(),
                kind: t.kind,
                data: &t.data,
            };
            (t.part.tensor_name(TensorNames::HuggingFace), tensor)
        })
        .collect();
    build(&tiny_header(), raw, &mut LoadOptions::default())
}

/// A tensor of the tiny model.
struct TinyTensor {
    part: Part,
    shape: Vec<u64>,
    kind: TensorType,
    data: Vec<u8>,
}

/// The weights of the tiny model, always the same ones.
fn tiny_tensors(kind: TensorType) -> Vec<TinyTensor> {
    let mut numbers = Numbers::new(42);
    let mut out = Vec::new();
    let mut add = |part, shape: &[u64]| {
        let count: u64 = shape.iter().product();
        let (kind, data) = match kind {
            // Norms scale by something near one, as trained ones do.
            _ if shape.len() == 1 => {
                let values = (0..count).map(|_| 1.0 + numbers.next() * 0.5);
                (TensorType::F32, values.flat_map(f32::to_le_bytes).collect())
            }
            TensorType::Q8_0 => (kind, q8_0_blocks(&mut numbers, count)),
            _ => {
                let values = (0..count).map(|_| numbers.next() * 0.5);
                (TensorType::F32, values.flat_map(f32::to_le_bytes).collect())
            }
        };
        out.push(TinyTensor {
            part,
            shape: shape.to_vec(),
            kind,
            data,
        });
    };
    add(Part::Embedding, &[64, 64]);
    for layer in 0..2 {
        let mut add = |part, shape: &[u64]| add(Part::Layer(layer, part), shape);
        add(LayerPart::AttentionNorm, &[64]);
        add(LayerPart::Query, &[64, 64]);
        add(LayerPart::Key, &[32, 64]);
        add(LayerPart::Value, &[32, 64]);
        add(LayerPart::AttentionOutput, &[64, 64]);
        add(LayerPart::FeedForwardNorm, &[64]);
        add(LayerPart::Gate, &[96, 64]);
        add(LayerPart::Up, &[96, 64]);
        add(LayerPart::Down, &[64, 96]);
    }
    add(Part::FinalNorm, &[64]);
    add(Part::Output, &[64, 64]);
    out
}

/// Blocks of 32 weights: a scale of 2^-8 as a 16-bit float, then signed bytes.
fn q8_0_blocks(numbers: &mut Numbers, count: u64) -> Vec<u8> {
    let scale = half::f16::from_f32(1.0 / 256.0).to_le_bytes();
    (0..count / 32)
        .flat_map(|_| {
            let weights: Vec<u8> = (0..32)
                .map(|_| ((numbers.next() * 127.0) as i8).to_le_bytes()[0])
                .collect();
            [scale.to_vec(), weights].concat()
        })
        .collect()
}

/// Numbers that look random and are the same everywhere (SplitMix64).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From -0.5 up to 0.5.
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // 24 bits fill the mantissa of a 32-bit float.
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32 - 0.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Llama written as its definition reads, in 64-bit floats, one token after another.
    struct Reference {
        tensors: Vec<(Part, Vec<f64>)>,
        kind: TensorType,
    }

    /// What Q8_0 products see of their activations: 8 bits and a scale for 32.
    fn rounded(x: &[f64]) -> Vec<f64> {
        let block = |block: &[f64]| {
            let largest = block.iter().fold(0.0, |l: f64, v| l.max(v.abs()));
            let step = largest as f32 / 127.0;
            let scale = half::f16::from_f32(step).to_f64();
            let round = |v: &f64| f64::from((*v as f32 / step).round()) * scale;
            block.iter().map(round).collect::<Vec<_>>()
        };
        x.chunks_exact(32).flat_map(block).collect()
    }

    fn dequantized(tensor: &TinyTensor) -> Vec<f64> {
        match tensor.kind {
            TensorType::Q8_0 => tensor
                .data
                .chunks_exact(34)
                .flat_map(|block| {
                    let scale = half::f16::from_le_bytes([block[0], block[1]]).to_f64();
                    block[2..].iter().map(move |&b| f64::from(b as i8) * scale)
                })
                .collect(),
            _ => tensor
                .data
                .chunks_exact(4)
                .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
                .collect(),
        }
    }

    impl Reference {
        fn new(kind: TensorType) -> Self {
            let tensors = tiny_tensors(kind);
            let tensors = tensors.iter().map(|t| (t.part, dequantized(t))).collect();
            Self { tensors, kind }
        }

        fn weight(&self, part: Part) -> &[f64] {
            &self.tensors.iter().find(|(p, _)| *p == part).unwrap().1
        }

        fn product(&self, part: Part, x: &[f64]) -> Vec<f64> {
            let x = match self.kind {
                TensorType::Q8_0 => rounded(x),
                _ => x.to_vec(),
            };
            let dot = |row: &[f64]| row.iter().zip(&x).map(|(a, b)| a * b).sum();
            self.weight(part).chunks_exact(x.len()).map(dot).collect()
        }

        fn norm(&self, part: Part, x: &[f64]) -> Vec<f64> {
            let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
            let weight = self.weight(part);
            x.iter()
                .zip(weight)
                .map(|(v, w)| v / (mean + 1e-5).sqrt() * w)
                .collect()
        }

        fn rotate(head: &mut [f64], position: usize) {
            for i in 0..8 {
                let angle = position as f64 * 10_000_f64.powf(-(i as f64) / 8.0);
                let (a, b) = (head[i], head[i + 8]);
                head[i] = a * angle.cos() - b * angle.sin();
                head[i + 8] = b * angle.cos() + a * angle.sin();
            }
        }

        fn logits(&self, prompt: &[u32]) -> Vec<f64> {
            let mut cache = [const { Vec::<(Vec<f64>, Vec<f64>)>::new() }; 2];
            let mut logits = Vec::new();
            for (position, token) in prompt.iter().enumerate() {
                let row = *token as usize * 64;
                let mut x = self.weight(Part::Embedding)[row..row + 64].to_vec();
                for (layer, cache) in (0..).zip(&mut cache) {
                    let part = |p| Part::Layer(layer, p);
                    let h = self.norm(part(LayerPart::AttentionNorm), &x);
                    let mut q = self.product(part(LayerPart::Query), &h);
                    let mut k = self.product(part(LayerPart::Key), &h);
                    for head in q.chunks_exact_mut(16).chain(k.chunks_exact_mut(16)) {
                        Self::rotate(head, position);
                    }
                    cache.push((k, self.product(part(LayerPart::Value), &h)));
                    let mut attended = Vec::new();
                    for (index, q) in q.chunks_exact(16).enumerate() {
                        // Two query heads share one key head.
                        let of = index / 2 * 16..index / 2 * 16 + 16;
                        let dot = |k: &[f64]| q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>();
                        let weights: Vec<f64> = cache
                            .iter()
                            .map(|(k, _)| (dot(&k[of.clone()]) / 4.0).exp())
                            .collect();
                        let sum: f64 = weights.iter().sum();
                        attended.extend(of.map(|d| {
                            let values = cache.iter().zip(&weights);
                            values.map(|((_, v), w)| v[d] * w / sum).sum::<f64>()
                        }));
                    }
                    let added = self.product(part(LayerPart::AttentionOutput), &attended);
                    x.iter_mut().zip(added).for_each(|(x, a)| *x += a);
                    let h = self.norm(part(LayerPart::FeedForwardNorm), &x);
                    let gate = self.product(part(LayerPart::Gate), &h);
                    let up = self.product(part(LayerPart::Up), &h);
                    let gated: Vec<f64> = gate
                        .iter()
                        .zip(up)
                        .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                        .collect();
                    let added = self.product(part(LayerPart::Down), &gated);
                    x.iter_mut().zip(added).for_each(|(x, a)| *x += a);
                }
                logits = self.product(Part::Output, &self.norm(Part::FinalNorm, &x));
            }
            logits
        }
    }

    #[test]
    fn the_known_logits_are_the_references() {
        for (kind, known) in [
            (TensorType::F32, EXPECTED_F32),
            (TensorType::Q8_0, EXPECTED_Q8_0),
        ] {
            let reference = Reference::new(kind).logits(&PROMPT);
            for (known, reference) in known.iter().zip(&reference) {
                assert!(
                    (f64::from(*known) - reference).abs() < 1e-5,
                    "{kind:?} {reference:?}"
                );
            }
        }
    }

    #[test]
    fn every_logit_is_the_references() {
        for (kind, tolerance) in [
            (TensorType::F32, TOLERANCE_F32),
            (TensorType::Q8_0, TOLERANCE_Q8_0),
        ] {
            let reference = Reference::new(kind).logits(&PROMPT);
            let found = logits(&mut tiny_engine(kind).unwrap(), &[21]).unwrap();
            let difference = found
                .iter()
                .zip(&reference)
                .map(|(a, b)| (f64::from(*a) - b).abs())
                .fold(0.0, f64::max);
            println!("{kind:?}: {difference:e}, {:?}", &reference[..6]);
            assert!(difference < f64::from(tolerance), "{kind:?}: {difference}");
        }
    }

    #[test]
    fn the_self_test_passes() {
        self_test().unwrap();
    }
}
