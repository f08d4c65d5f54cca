use candle_core::{D, Result, Tensor};
use cpu_kernels::Threads;
use diagnostics::{Code, Diagnostic, excerpt};
use model_format::{ModelHeader, WindowedLayers};

use crate::{
    architecture::{Architecture, LayerPart, Part, unsupported},
    attention::{Attention, Heads},
    kv::PagedKv,
    linear::Linear,
    matrix::Matrix,
    plan::Plan,
    rope::{Angles, Rope, Rotation},
    weights::Weights,
};

/// A model of the Llama family: pre-normalised blocks of rotary attention and a gated
/// feed-forward part.
pub(crate) struct Llama {
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Norm,
    output: Matrix,
    rope: Rope,
    heads: Heads,
    threads: Threads,
}

struct Layer {
    attention_norm: Norm,
    query: Linear,
    query_norm: Option<Norm>,
    key: Linear,
    key_norm: Option<Norm>,
    value: Linear,
    /// Tokens that a token sees, itself included; absent, all.
    window: Option<usize>,
    attention_output: Linear,
    feed_forward_norm: Norm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

struct Norm {
    weight: Tensor,
    epsilon: f64,
}

impl Norm {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
        x.broadcast_div(&(mean_square + self.epsilon)?.sqrt()?)?
            .broadcast_mul(&self.weight)
    }
}

impl Llama {
    /// Takes the weights that the header describes; `context_length` positions can be used.
    pub(crate) fn new(
        header: &ModelHeader,
        context_length: u32,
        mut weights: Weights<'_, '_>,
    ) -> std::result::Result<Self, Diagnostic> {
        let architecture = Architecture::named(&header.architecture, header.format)?;
        let order = architecture.rows(header.format);
        let biases = architecture.biases(header.biases);
        check_header(header)?;
        let epsilon = f64::from(header.rms_epsilon.ok_or_else(|| {
            Diagnostic::new(
                Code::InvalidModelFile,
                "the header lacks the epsilon of the norms",
            )
            .hint("convert the model again with a current converter")
        })?);
        let factors = weights.rope_factors()?;
        let rotation = Rotation::new(header, factors.as_deref())?;

        let hidden = header.embedding_length;
        let norm = |weights: &mut Weights<'_, '_>, part, width| {
            let weight = weights.vector(part, width)?;
            Ok::<_, Diagnostic>(Norm { weight, epsilon })
        };
        let head_norm = |weights: &mut Weights<'_, '_>, part| {
            if architecture.head_norms {
                norm(weights, part, header.head_dim).map(Some)
            } else {
                Ok(None)
            }
        };
        let embedding = weights.matrix(Part::Embedding, header.vocab_size, hidden)?;
        let mut layers = Vec::new();
        for index in 0..header.layers {
            let part = |part| Part::Layer(index, part);
            let w = &mut weights;
            let queries = (header.heads, header.head_dim);
            let keys = (header.kv_heads, header.head_dim);
            let (query_rows, key_rows) = (queries.0 * queries.1, keys.0 * keys.1);
            let inner = header.feed_forward_length;
            let bias = biases.query_key_value;
            layers.push(Layer {
                attention_norm: norm(w, part(LayerPart::AttentionNorm), hidden)?,
                query: w.rotary_linear(part(LayerPart::Query), queries, hidden, order, bias)?,
                query_norm: head_norm(w, part(LayerPart::QueryNorm))?,
                key: w.rotary_linear(part(LayerPart::Key), keys, hidden, order, bias)?,
                key_norm: head_norm(w, part(LayerPart::KeyNorm))?,
                value: w.linear(part(LayerPart::Value), key_rows, hidden, bias)?,
                window: window(header, index)?,
                attention_output: w.linear(
                    part(LayerPart::AttentionOutput),
                    hidden,
                    query_rows,
                    biases.attention_output,
                )?,
                feed_forward_norm: norm(w, part(LayerPart::FeedForwardNorm), hidden)?,
                gate: w.linear(part(LayerPart::Gate), inner, hidden, biases.feed_forward)?,
                up: w.linear(part(LayerPart::Up), inner, hidden, biases.feed_forward)?,
                down: w.linear(part(LayerPart::Down), hidden, inner, biases.feed_forward)?,
            });
        }
        let norm = norm(&mut weights, Part::FinalNorm, hidden)?;
        let output = if header.tied_embeddings {
            weights.skip(Part::Output);
            embedding.clone()
        } else {
            weights.matrix(Part::Output, header.vocab_size, hidden)?
        };
        // The table's size follows the header, so it waits until the shapes were checked.
        let rope =
            Rope::new(&rotation, context_length, weights.device()).map_err(Diagnostic::internal)?;
        let threads = weights.threads().clone();
        weights.finish()?;
        Ok(Self {
            embedding,
            layers,
            norm,
            output,
            rope,
            heads: Heads {
                queries: header.heads as usize,
                keys: header.kv_heads as usize,
                width: header.head_dim as usize,
            },
            threads,
        })
    }

    /// Computes all rows of a step and writes their keys and values; returns the logits of
    /// the rows that want them, `[rows, vocabulary]`.
    pub(crate) fn forward(&self, plan: &Plan, kv: &PagedKv) -> Result<Option<Tensor>> {
        let device = self.norm.weight.device();
        let tokens = Tensor::new(plan.tokens.as_slice(), device)?;
        let positions = Tensor::new(plan.positions.as_slice(), device)?;
        let angles = self.rope.at(&positions)?;
        let mut x = self.embedding.rows(&tokens)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let attended = self.attention(index, layer, &x, &angles, plan, kv)?;
            x = (x + attended)?;
            x = (&x + layer.feed_forward(&x)?)?;
        }
        if plan.logit_rows.is_empty() {
            return Ok(None);
        }
        let rows = Tensor::new(plan.logit_rows.as_slice(), device)?;
        let last = self.norm.apply(&x.index_select(&rows, 0)?)?;
        self.output.apply(&last).map(Some)
    }

    fn attention(
        &self,
        index: usize,
        layer: &Layer,
        x: &Tensor,
        angles: &Angles,
        plan: &Plan,
        kv: &PagedKv,
    ) -> Result<Tensor> {
        let Heads {
            queries,
            keys,
            width,
        } = self.heads;
        let rows = plan.tokens.len();
        let x = layer.attention_norm.apply(x)?;
        let mut query = layer.query.apply(&x)?.reshape((rows, queries, width))?;
        let mut key = layer.key.apply(&x)?.reshape((rows, keys, width))?;
        let value = layer.value.apply(&x)?;
        if let (Some(query_norm), Some(key_norm)) = (&layer.query_norm, &layer.key_norm) {
            query = query_norm.apply(&query)?;
            key = key_norm.apply(&key)?;
        }
        let query = angles.rotate(&query)?.reshape((rows, queries * width))?;
        let key = angles.rotate(&key)?.reshape((rows, keys * width))?;
        let kv = kv.layer(index);
        kv.write(&key, &value, &plan.runs)?;
        let attention = Attention {
            spans: &plan.spans,
            heads: self.heads,
            window: layer.window,
            threads: &self.threads,
        };
        let attended = attention.apply(&query, kv)?;
        layer.attention_output.apply(&attended)
    }
}

impl Layer {
    fn feed_forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.feed_forward_norm.apply(x)?;
        let gated = (self.gate.apply(&x)?.silu()? * self.up.apply(&x)?)?;
        self.down.apply(&gated)
    }
}

/// Tokens that a token of a layer sees.
fn window(header: &ModelHeader, layer: u32) -> std::result::Result<Option<usize>, Diagnostic> {
    let Some(window) = &header.sliding_window else {
        return Ok(None);
    };
    let windowed = match &window.layers {
        WindowedLayers::From(first) => layer >= *first,
        WindowedLayers::Listed(list) => list.get(layer as usize).copied().unwrap_or(false),
        WindowedLayers::Other(rule) => {
            return Err(unsupported(format!(
                "a sliding window by {}",
                excerpt(rule, 80)
            )));
        }
    };
    Ok(windowed.then_some(window.tokens as usize))
}

fn check_header(header: &ModelHeader) -> std::result::Result<(), Diagnostic> {
    if header.kv_heads == 0 || !header.heads.is_multiple_of(header.kv_heads) {
        return Err(unsupported(format!(
            "{} attention heads over {} key-value heads",
            header.heads, header.kv_heads
        )));
    }
    if !header.head_dim.is_multiple_of(2) {
        return Err(unsupported(format!(
            "heads of {} numbers, which cannot be rotated",
            header.head_dim
        )));
    }
    match header.activation.as_deref() {
        None | Some("silu" | "swish") => Ok(()),
        Some(other) => Err(unsupported(format!(
            "the activation `{}`",
            excerpt(other, 40)
        ))),
    }
}
