use model_format::{
    Biases, Experts, LongRopeFactors, ModelHeader, RopeScaling, SlidingWindow, TensorType,
    WeightFormat, WindowedLayers,
};

use crate::{
    architecture::Architecture,
    tensor_names::{ExpertPart, LayerPart, Part},
};

/// The header of the tiny model of Llama.
pub(crate) fn tiny_header() -> ModelHeader {
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
        parameters: 0,
        weight_bytes: 0,
    }
}

/// One with soft caps, norms behind each part, and a window in its first layer.
pub(super) fn gemma2_header() -> ModelHeader {
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
        ..tiny_header()
    }
}

/// One that normalises its heads and rotates those of its first layer differently.
pub(super) fn gemma3_header() -> ModelHeader {
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

/// One with fused matrices, that rotates 12 of 16 numbers with factors of their own.
pub(super) fn phi3_header() -> ModelHeader {
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
        ..tiny_header()
    }
}

/// One with four experts of which two compute a token.
pub(super) fn qwen3_moe_header() -> ModelHeader {
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
        ..tiny_header()
    }
}

/// A tensor of a tiny model.
pub(super) struct TinyTensor {
    pub(super) part: Part,
    pub(super) shape: Vec<u64>,
    pub(super) kind: TensorType,
    pub(super) data: Vec<u8>,
}

/// The weights of a tiny model, always the same ones.
pub(super) fn tiny_tensors(
    header: &ModelHeader,
    architecture: Architecture,
    kind: TensorType,
) -> Vec<TinyTensor> {
    // Norms scale by something near one, as trained ones do.
    let norms_about = 1.0 - architecture.norm_offset(header.format);
    let mut numbers = Numbers::new(42);
    let mut tensor = |(part, shape): (Part, Vec<u32>)| {
        let count: u64 = shape.iter().copied().map(u64::from).product();
        let about = if shape.len() == 1 { norms_about } else { 0.0 };
        let (kind, data) = match kind {
            TensorType::Q8_0 if shape.len() == 2 => (kind, q8_0_blocks(&mut numbers, count)),
            _ => {
                let values = (0..count).map(|_| about + numbers.next() * 0.5);
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
        let of_layer = layer_shapes(header, architecture).into_iter();
        shapes.extend(of_layer.map(|(part, shape)| (Part::Layer(layer, part), shape)));
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
