//! Tiny models with pseudo-random weights, for the self-test.

use std::collections::BTreeSet;

use model_format::{
    Biases, Experts, LongRopeFactors, ModelHeader, RecommendedSampling, RopeScaling, SlidingWindow,
    TensorType, WeightFormat, WindowedLayers,
};

use crate::{
    architecture::Architecture,
    pseudo_random::PseudoRandom,
    tensor_names::{ExpertPart, LayerPart, Part},
};

pub(crate) fn llama_header() -> ModelHeader {
    ModelHeader {
        format: WeightFormat::Safetensors,
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
        tensor_types: BTreeSet::new(),
        parameters: 0,
        weight_bytes: 0,
        sampling: RecommendedSampling::default(),
    }
}

/// Covers soft caps, post-norms and a sliding window in the first layer.
pub(crate) fn gemma2_header() -> ModelHeader {
    ModelHeader {
        architecture: "gemma2".to_owned(),
        sliding_window: Some(SlidingWindow {
            tokens: 8,
            layers: WindowedLayers::AllButEvery(2),
        }),
        attention_scale: Some(0.3),
        attention_softcap: Some(1.5),
        logit_softcap: Some(3.0),
        tied_embeddings: true,
        ..llama_header()
    }
}

/// Covers head norms and a local rotation in the first layer.
pub(crate) fn gemma3_header() -> ModelHeader {
    ModelHeader {
        architecture: "gemma3_text".to_owned(),
        rope_theta: 1e6,
        rope_local_theta: Some(10_000.0),
        rope_scaling: RopeScaling::Linear { factor: 8.0 },
        attention_softcap: None,
        logit_softcap: None,
        ..gemma2_header()
    }
}

/// Covers fused matrices, partial rotation and LongRoPE factors.
pub(crate) fn phi3_header() -> ModelHeader {
    ModelHeader {
        architecture: "phi3".to_owned(),
        rope_dimensions: 12,
        rope_scaling: RopeScaling::LongRope {
            original_context_length: 32,
            attention_factor: 1.25,
            factors: Some(LongRopeFactors {
                short: vec![1.0; 6],
                long: vec![1.0, 1.5, 2.0, 2.5, 3.0, 3.5],
            }),
        },
        ..llama_header()
    }
}

/// Covers a mixture of four experts, two per token.
pub(crate) fn qwen3_moe_header() -> ModelHeader {
    ModelHeader {
        architecture: "qwen3_moe".to_owned(),
        experts: Some(Experts {
            count: 4,
            used: 2,
            feed_forward_length: 32,
            normalized: true,
            every: 1,
            dense_layers: Vec::new(),
        }),
        ..llama_header()
    }
}

pub(crate) struct TinyTensor {
    pub(crate) part: Part,
    pub(crate) shape: Vec<u64>,
    pub(crate) kind: TensorType,
    pub(crate) data: Vec<u8>,
}

/// Returns the weights of a tiny model, which are the same on every call.
pub(crate) fn tiny_tensors(
    header: &ModelHeader,
    architecture: Architecture,
    kind: TensorType,
) -> Vec<TinyTensor> {
    // Norm weights are near one, as in trained models.
    let norm_mean = 1.0 - architecture.norm_offset(header.format);
    let mut random = PseudoRandom::new(42);
    let mut tensor = |(part, shape): (Part, Vec<u32>)| {
        let count: u64 = shape.iter().copied().map(u64::from).product();
        let mean = if shape.len() == 1 { norm_mean } else { 0.0 };
        let (kind, data) = match kind {
            TensorType::Q8_0 if shape.len() == 2 => (kind, q8_0_blocks(&mut random, count)),
            _ => {
                let values = (0..count).map(|_| mean + random.next() * 0.5);
                (TensorType::F32, values.flat_map(f32::to_le_bytes).collect())
            }
        };
        TinyTensor {
            part,
            shape: shape.into_iter().map(u64::from).collect(),
            kind,
            data,
        }
    };
    let (vocabulary, hidden) = (header.vocab_size, header.embedding_length);
    let mut shapes = vec![(Part::Embedding, vec![vocabulary, hidden])];
    for layer in 0..header.layers {
        let in_layer = layer_shapes(header, architecture).into_iter();
        shapes.extend(in_layer.map(|(part, shape)| (Part::Layer(layer, part), shape)));
    }
    shapes.push((Part::FinalNorm, vec![hidden]));
    if !header.tied_embeddings {
        shapes.push((Part::Output, vec![vocabulary, hidden]));
    }
    shapes.into_iter().map(&mut tensor).collect()
}

fn layer_shapes(header: &ModelHeader, architecture: Architecture) -> Vec<(LayerPart, Vec<u32>)> {
    let (hidden, inner) = (header.embedding_length, header.feed_forward_length);
    let queries = header.heads * header.head_dim;
    let keys = header.kv_heads * header.head_dim;
    let mut shapes = vec![(LayerPart::AttentionNorm, vec![hidden])];
    if architecture.fused {
        shapes.push((LayerPart::QueryKeyValue, vec![queries + 2 * keys, hidden]));
    } else {
        shapes.extend([
            (LayerPart::Query, vec![queries, hidden]),
            (LayerPart::Key, vec![keys, hidden]),
            (LayerPart::Value, vec![keys, hidden]),
        ]);
    }
    if architecture.head_norms {
        shapes.push((LayerPart::QueryNorm, vec![header.head_dim]));
        shapes.push((LayerPart::KeyNorm, vec![header.head_dim]));
    }
    shapes.push((LayerPart::AttentionOutput, vec![hidden, queries]));
    shapes.push((LayerPart::FeedForwardNorm, vec![hidden]));
    if architecture.post_norms {
        shapes.push((LayerPart::AttentionPostNorm, vec![hidden]));
        shapes.push((LayerPart::FeedForwardPostNorm, vec![hidden]));
    }
    if let Some(experts) = &header.experts {
        shapes.push((LayerPart::Router, vec![experts.count, hidden]));
        let inner = experts.feed_forward_length;
        for index in 0..experts.count {
            shapes.extend(ExpertPart::ALL.map(|part| {
                let shape = match part {
                    ExpertPart::Gate | ExpertPart::Up => vec![inner, hidden],
                    ExpertPart::Down => vec![hidden, inner],
                };
                (LayerPart::Expert(index, part), shape)
            }));
        }
        return shapes;
    }
    if architecture.fused {
        shapes.push((LayerPart::GateUp, vec![2 * inner, hidden]));
    } else {
        shapes.push((LayerPart::Gate, vec![inner, hidden]));
        shapes.push((LayerPart::Up, vec![inner, hidden]));
    }
    shapes.push((LayerPart::Down, vec![hidden, inner]));
    shapes
}

/// Returns Q8_0 blocks of 32 weights: an F16 scale of 2^-8, then signed bytes.
fn q8_0_blocks(random: &mut PseudoRandom, count: u64) -> Vec<u8> {
    let scale = half::f16::from_f32(1.0 / 256.0).to_le_bytes();
    (0..count / 32)
        .flat_map(|_| {
            let weights: Vec<u8> = (0..32)
                .map(|_| ((random.next() * 127.0) as i8).to_le_bytes()[0])
                .collect();
            [scale.to_vec(), weights].concat()
        })
        .collect()
}
