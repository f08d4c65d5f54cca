use candle_core::{D, Result, Tensor};
use cpu_kernels::Threads;
use diagnostics::{Code, Diagnostic, excerpt};
use model_format::ModelHeader;

use crate::{
    architecture::{Architecture, unsupported},
    attention::{Attention, Heads},
    feed_forward::FeedForward,
    kv::PagedKv,
    linear::Linear,
    matrix::Matrix,
    plan::Plan,
    rope::{Angles, Rope, Rotation},
    tensor_names::{LayerPart, Part},
    weights::Weights,
};

/// A model of the Llama family: pre-normalised blocks of rotary attention and a gated
/// feed-forward part.
pub(crate) struct Llama {
    embedding: Matrix,
    /// What embeddings are multiplied with.
    embedding_scale: Option<f64>,
    layers: Vec<Layer>,
    norm: Norm,
    output: Matrix,
    /// Bound that logits are kept within.
    logit_softcap: Option<f64>,
    rope: Rope,
    /// Of the layers with a window where theirs is another.
    local_rope: Option<Rope>,
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
    attention_post_norm: Option<Norm>,
    feed_forward_norm: Norm,
    feed_forward: FeedForward,
    feed_forward_post_norm: Option<Norm>,
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
        let epsilon = f64::from(header.rms_epsilon.ok_or_else(|| {
            Diagnostic::new(
                Code::InvalidModelFile,
                "the header lacks the epsilon of the norms",
            )
            .hint("convert the model again with a current converter")
        })?);
        let rotation = Rotation::new(header, &weights.rope_factors()?, context_length)?;

        let hidden = header.embedding_length;
        let offset = architecture.norm_offset(header.format);
        let norm = |weights: &mut Weights<'_, '_>, part, width| {
            let weight = weights.vector(part, width)?;
            let weight = (weight + offset).map_err(Diagnostic::internal)?;
            Ok::<_, Diagnostic>(Norm { weight, epsilon })
        };
        let norm_if = |has: bool, weights: &mut Weights<'_, '_>, part, width| {
            has.then(|| norm(weights, part, width)).transpose()
        };
        let post_norm = |weights: &mut Weights<'_, '_>, part| {
            norm_if(architecture.post_norms, weights, part, hidden)
        };
        let head_norm = |weights: &mut Weights<'_, '_>, part| {
            norm_if(architecture.head_norms, weights, part, header.head_dim)
        };
        let embedding = weights.matrix(Part::Embedding, header.vocab_size, hidden)?;
        let mut layers = Vec::new();
        for index in 0..header.layers {
            let part = |part| Part::Layer(index, part);
            let w = &mut weights;
            let queries = (header.heads, header.head_dim);
            let keys = (header.kv_heads, header.head_dim);
            let (query_rows, key_rows) = (queries.0 * queries.1, keys.0 * keys.1);
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
                attention_post_norm: post_norm(w, part(LayerPart::AttentionPostNorm))?,
                feed_forward_norm: norm(w, part(LayerPart::FeedForwardNorm), hidden)?,
                feed_forward: FeedForward::load(w, header, architecture, index)?,
                feed_forward_post_norm: post_norm(w, part(LayerPart::FeedForwardPostNorm))?,
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
        let rope = |rotation: &Rotation| {
            Rope::new(rotation, context_length, weights.device()).map_err(Diagnostic::internal)
        };
        let local = Rotation::local(header)?;
        let (rope, local_rope) = (rope(&rotation)?, local.as_ref().map(rope).transpose()?);
        let threads = weights.threads().clone();
        weights.finish()?;
        Ok(Self {
            embedding,
            embedding_scale: architecture
                .scaled_embedding
                .then(|| f64::from(hidden).sqrt()),
            layers,
            norm,
            output,
            logit_softcap: header.logit_softcap.map(f64::from),
            rope,
            local_rope,
            heads: Heads {
                queries: header.heads as usize,
                keys: header.kv_heads as usize,
                width: header.head_dim as usize,
                scale: header
                    .attention_scale
                    .unwrap_or_else(|| 1.0 / (header.head_dim as f32).sqrt()),
                softcap: header.attention_softcap,
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
        let local_angles = self.local_rope.as_ref().map(|rope| rope.at(&positions));
        let local_angles = local_angles.transpose()?;
        let mut x = self.embedding.rows(&tokens)?;
        if let Some(scale) = self.embedding_scale {
            x = (x * scale)?;
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let angles = match &local_angles {
                Some(local) if layer.window.is_some() => local,
                _ => &angles,
            };
            let attended = self.attention(index, layer, &x, angles, plan, kv)?;
            x = (x + attended)?;
            x = (&x + layer.feed_forward(&x)?)?;
        }
        if plan.logit_rows.is_empty() {
            return Ok(None);
        }
        let rows = Tensor::new(plan.logit_rows.as_slice(), device)?;
        let last = self.norm.apply(&x.index_select(&rows, 0)?)?;
        let logits = self.output.apply(&last)?;
        match self.logit_softcap {
            Some(cap) => ((logits / cap)?.tanh()? * cap).map(Some),
            None => Ok(Some(logits)),
        }
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
            ..
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
        let out = layer.attention_output.apply(&attended)?;
        normalized(layer.attention_post_norm.as_ref(), out)
    }
}

impl Layer {
    fn feed_forward(&self, x: &Tensor) -> Result<Tensor> {
        let out = self.feed_forward.apply(&self.feed_forward_norm.apply(x)?)?;
        normalized(self.feed_forward_post_norm.as_ref(), out)
    }
}

fn normalized(norm: Option<&Norm>, x: Tensor) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.apply(&x),
        None => Ok(x),
    }
}

/// Tokens that a token of a layer sees.
fn window(header: &ModelHeader, layer: u32) -> std::result::Result<Option<usize>, Diagnostic> {
    let Some(window) = &header.sliding_window else {
        return Ok(None);
    };
    let windowed = window
        .is_in(layer)
        .map_err(|rule| unsupported(format!("a sliding window by {}", excerpt(rule, 80))))?;
    Ok(windowed.then_some(window.tokens as usize))
}
