use candle_core::Result;
use diagnostics::{Diagnostic, excerpt};
use inference_execution::Pooling;
use model_format::ModelHeader;

use crate::{
    architecture::Architecture,
    attention::{Attention, Heads},
    backend::Backend,
    errors,
    feed_forward::FeedForward,
    linear::Linear,
    matrix::Matrix,
    norm::Norm,
    plan::{Plan, Span},
    rope::Rotation,
    tensor_names::{LayerPart, Part},
    weights::Weights,
};

/// A Llama-like model: pre-normalized blocks of rotary attention and a gated feed-forward network.
pub(crate) struct Transformer {
    embedding: Matrix,
    embedding_scale: Option<f32>,
    layers: Vec<Layer>,
    norm: Norm,
    output: Linear,
    logit_softcap: Option<f32>,
    rotation: Rotation,
    /// Rotation of layers with a window, if it differs from `rotation`.
    local_rotation: Option<Rotation>,
    heads: Heads,
}

struct Layer {
    attention_norm: Norm,
    query: Linear,
    query_norm: Option<Norm>,
    key: Linear,
    key_norm: Option<Norm>,
    value: Linear,
    /// Number of tokens that a token attends to, including itself; `None` means all.
    window: Option<usize>,
    attention_output: Linear,
    attention_post_norm: Option<Norm>,
    feed_forward_norm: Norm,
    feed_forward: FeedForward,
    feed_forward_post_norm: Option<Norm>,
}

impl Transformer {
    /// Takes the weights that the header describes. Sequences have up to `context_length` tokens.
    ///
    /// Errors: missing, unexpected or malformed weights, and unsupported variants.
    pub(crate) fn new(
        header: &ModelHeader,
        context_length: u32,
        mut weights: Weights<'_, '_>,
    ) -> std::result::Result<Self, Diagnostic> {
        let architecture = Architecture::named(&header.architecture, header.format)?;
        let layout = architecture.rotary_layout(header.format);
        let biases = architecture.biases(header.biases);
        let epsilon = header
            .rms_epsilon
            .ok_or_else(errors::missing_norm_epsilon)?;
        let rotation = Rotation::new(header, &weights.rope_factors()?, context_length)?;

        let hidden = header.embedding_length;
        let offset = architecture.norm_offset(header.format);
        let norm = |weights: &mut Weights<'_, '_>, part, width| {
            let weight = weights.vector(part, width, offset)?;
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
                query: w.rotary_linear(part(LayerPart::Query), queries, hidden, layout, bias)?,
                query_norm: head_norm(w, part(LayerPart::QueryNorm))?,
                key: w.rotary_linear(part(LayerPart::Key), keys, hidden, layout, bias)?,
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
            Linear {
                matrix: embedding.clone(),
                bias: None,
            }
        } else {
            weights.linear(Part::Output, header.vocab_size, hidden, false)?
        };
        weights.finish()?;
        Ok(Self {
            embedding,
            embedding_scale: architecture
                .scaled_embedding
                .then(|| (hidden as f32).sqrt()),
            layers,
            norm,
            output,
            logit_softcap: header.logit_softcap,
            rotation,
            local_rotation: Rotation::local(header)?,
            heads: Heads {
                queries: header.heads as usize,
                keys: header.kv_heads as usize,
                width: header.head_dim as usize,
                scale: header
                    .attention_scale
                    .unwrap_or_else(|| 1.0 / (header.head_dim as f32).sqrt()),
                softcap: header.attention_softcap,
            },
        })
    }

    /// Computes all rows of a step and writes their keys and values. Returns the logits of the rows
    /// that request them, one row after the other.
    pub(crate) fn forward<B: Backend>(&self, backend: &mut B, plan: &Plan) -> Result<Vec<f32>> {
        let x = self.states(backend, plan)?;
        let logits = if plan.logit_rows.is_empty() {
            Vec::new()
        } else {
            self.logits(backend, &x, &plan.logit_rows)?
        };
        backend.release(x);
        Ok(logits)
    }

    /// Like [`Self::forward`], but returns one row per sequence: the normalized state of its last
    /// row, or the sum of the normalized states of its rows.
    pub(crate) fn embed<B: Backend>(
        &self,
        backend: &mut B,
        plan: &Plan,
        pooling: Pooling,
    ) -> Result<Vec<f32>> {
        let x = self.states(backend, plan)?;
        let rows: Vec<u32> = match pooling {
            Pooling::Last => plan.spans.iter().map(Span::last_row).collect(),
            Pooling::Mean => (0..plan.tokens.len() as u32).collect(),
        };
        let selected = backend.select(&x, &rows)?;
        let normed = backend.norm(&selected, &self.norm)?;
        backend.release(x);
        backend.release(selected);
        let states = backend.to_host(normed)?;
        Ok(match pooling {
            Pooling::Last => states,
            Pooling::Mean => plan.sums(&states),
        })
    }

    /// Returns the states of all rows after the last layer.
    fn states<B: Backend>(&self, backend: &mut B, plan: &Plan) -> Result<B::Rows> {
        let angles = backend.angles(&self.rotation, &plan.positions)?;
        let local_angles = match &self.local_rotation {
            Some(local) => Some(backend.angles(local, &plan.positions)?),
            None => None,
        };
        let mut x = backend.lookup(&self.embedding, &plan.tokens)?;
        if let Some(scale) = self.embedding_scale {
            x = backend.scale(x, scale)?;
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let angles = match &local_angles {
                Some(local) if layer.window.is_some() => local,
                _ => &angles,
            };
            let attended = self.attention(backend, index, &x, angles, plan)?;
            x = backend.add(x, attended)?;
            let out = layer.feed_forward(backend, &x, plan.tokens.len())?;
            x = backend.add(x, out)?;
        }
        for angles in std::iter::once(angles).chain(local_angles) {
            for x in angles {
                backend.release(x);
            }
        }
        Ok(x)
    }

    fn logits<B: Backend>(&self, backend: &mut B, x: &B::Rows, rows: &[u32]) -> Result<Vec<f32>> {
        let last = backend.select(x, rows)?;
        let normed = backend.norm(&last, &self.norm)?;
        let [mut logits] = backend.linear(&normed, [&self.output])?;
        backend.release(last);
        backend.release(normed);
        if let Some(cap) = self.logit_softcap {
            logits = backend.softcap(logits, cap)?;
        }
        backend.to_host(logits)
    }

    fn attention<B: Backend>(
        &self,
        backend: &mut B,
        index: usize,
        x: &B::Rows,
        angles: &[B::Rows; 2],
        plan: &Plan,
    ) -> Result<B::Rows> {
        let (layer, width) = (&self.layers[index], self.heads.width);
        let normed = backend.norm(x, &layer.attention_norm)?;
        let [mut query, mut key, value] =
            backend.linear(&normed, [&layer.query, &layer.key, &layer.value])?;
        backend.release(normed);
        if let (Some(query_norm), Some(key_norm)) = (&layer.query_norm, &layer.key_norm) {
            query = backend.norm_heads(query, query_norm)?;
            key = backend.norm_heads(key, key_norm)?;
        }
        let query = backend.rotate(query, width, angles)?;
        let key = backend.rotate(key, width, angles)?;
        let attention = Attention {
            heads: self.heads,
            window: layer.window,
        };
        let attended = backend.attend(index, attention, [query, key, value], plan)?;
        let [out] = backend.linear(&attended, [&layer.attention_output])?;
        backend.release(attended);
        normalized(backend, layer.attention_post_norm.as_ref(), out)
    }
}

impl Layer {
    fn feed_forward<B: Backend>(
        &self,
        backend: &mut B,
        x: &B::Rows,
        rows: usize,
    ) -> Result<B::Rows> {
        let normed = backend.norm(x, &self.feed_forward_norm)?;
        let out = self.feed_forward.apply(backend, &normed, rows)?;
        backend.release(normed);
        normalized(backend, self.feed_forward_post_norm.as_ref(), out)
    }
}

fn normalized<B: Backend>(backend: &mut B, norm: Option<&Norm>, x: B::Rows) -> Result<B::Rows> {
    match norm {
        Some(norm) => backend.norm_heads(x, norm),
        None => Ok(x),
    }
}

/// Returns the sliding window of a layer in tokens, if it has one.
fn window(header: &ModelHeader, layer: u32) -> std::result::Result<Option<usize>, Diagnostic> {
    let Some(window) = &header.sliding_window else {
        return Ok(None);
    };
    let has_window = window.is_in(layer).map_err(|rule| {
        errors::unsupported(format!("a sliding window defined by {}", excerpt(rule, 80)))
    })?;
    Ok(has_window.then_some(window.tokens as usize))
}
