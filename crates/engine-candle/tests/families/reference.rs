//! A reference implementation of all families in `f64`, token by token, directly from the
//! definitions.

use std::f64::consts::{PI, TAU};

use crate::tiny_model::TinyModel;

/// A model with the parameters that the engine derives from its configuration.
pub struct Reference<'a> {
    pub model: &'a TinyModel,
    /// Sliding window of each layer.
    pub windows: Vec<Option<usize>>,
    /// Rotary frequency of each pair of a head.
    pub frequencies: Vec<f64>,
    /// Frequencies of layers with a window, if they differ.
    pub local_frequencies: Option<Vec<f64>>,
    /// Factor that rotated elements are multiplied by.
    pub scale: f64,
}

/// Returns the frequencies without scaling.
pub fn frequencies(model: &TinyModel) -> Vec<f64> {
    let part = model.config["partial_rotary_factor"]
        .as_f64()
        .unwrap_or(1.0);
    let pairs = (model.head_dim() as f64 * part) as usize / 2;
    frequencies_of(model.config["rope_theta"].as_f64().unwrap(), pairs)
}

pub fn frequencies_of(theta: f64, pairs: usize) -> Vec<f64> {
    (0..pairs)
        .map(|pair| 1.0 / theta.powf(pair as f64 / pairs as f64))
        .collect()
}

/// Applies YaRN: the divided share of a frequency rises from 0 to 1 between the pair that completes
/// 32 turns over the trained context and the pair that completes one.
pub fn yarn(frequencies: &[f64], theta: f64, factor: f64, trained: f64) -> Vec<f64> {
    let pairs = frequencies.len() as f64;
    let pair = |turns: f64| pairs * (trained / (TAU * turns)).log(theta);
    let (first, last) = (pair(32.0).floor().max(0.0), pair(1.0).ceil());
    (0..)
        .zip(frequencies)
        .map(|(index, f)| {
            let divided = ((f64::from(index) - first) / (last - first)).clamp(0.0, 1.0);
            f * (1.0 - divided) + f / factor * divided
        })
        .collect()
}

fn add(x: &mut [f64], more: &[f64]) {
    x.iter_mut().zip(more).for_each(|(x, m)| *x += m);
}

impl Reference<'_> {
    fn weight(&self, name: &str) -> Vec<f64> {
        let values = &self.model.tensors[name];
        values.numbers.iter().copied().map(f64::from).collect()
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let rows = self.weight(&format!("{name}.weight"));
        let dot = |row: &[f64]| row.iter().zip(x).map(|(a, b)| a * b).sum();
        let mut out: Vec<f64> = rows.chunks_exact(x.len()).map(dot).collect();
        let bias = format!("{name}.bias");
        if self.model.tensors.contains_key(&bias) {
            add(&mut out, &self.weight(&bias));
        }
        out
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let epsilon = self.number("rms_norm_eps").unwrap();
        let offset = if self.model.is_gemma() { 1.0 } else { 0.0 };
        let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let weight = self.weight(&format!("{name}.weight"));
        let scaled = x.iter().map(|v| v / (mean + epsilon).sqrt());
        scaled.zip(weight).map(|(v, w)| v * (w + offset)).collect()
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.model.config[key].as_f64()
    }

    /// Normalizes each head, if the model has a norm for it, and rotates it.
    fn rotated(&self, layer: usize, part: &str, x: &[f64], position: usize) -> Vec<f64> {
        let width = self.model.head_dim();
        let norm = format!("model.layers.{layer}.self_attn.{part}_norm");
        let frequencies = match &self.local_frequencies {
            Some(local) if self.windows[layer].is_some() => local,
            _ => &self.frequencies,
        };
        let half = frequencies.len();
        let mut out = Vec::new();
        for head in x.chunks_exact(width) {
            let has_norm = self.model.tensors.contains_key(&format!("{norm}.weight"));
            let head = if has_norm {
                self.norm(&norm, head)
            } else {
                head.to_vec()
            };
            let mut rotated = head.clone();
            for (pair, frequency) in frequencies.iter().enumerate() {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                let (a, b) = (head[pair], head[pair + half]);
                rotated[pair] = (a * cos - b * sin) * self.scale;
                rotated[pair + half] = (b * cos + a * sin) * self.scale;
            }
            out.extend(rotated);
        }
        out
    }

    /// Returns the query, key and value of a layer.
    fn projected(&self, layer: usize, x: &[f64]) -> [Vec<f64>; 3] {
        let name = |part: &str| format!("model.layers.{layer}.self_attn.{part}_proj");
        if self.model.family() != "phi3" {
            return ["q", "k", "v"].map(|part| self.linear(&name(part), x));
        }
        let all = self.linear(&name("qkv"), x);
        let queries = self.model.heads() * self.model.head_dim();
        let keys = self.model.kv_heads() * self.model.head_dim();
        let (queries, rest) = all.split_at(queries);
        let (keys, values) = rest.split_at(keys);
        [queries, keys, values].map(<[f64]>::to_vec)
    }

    /// Computes attention over the visible keys and values.
    fn attended(&self, query: &[f64], visible: &[(Vec<f64>, Vec<f64>)]) -> Vec<f64> {
        let width = self.model.head_dim();
        let group = self.model.heads() / self.model.kv_heads();
        let scalar = self.number("query_pre_attn_scalar").unwrap_or(width as f64);
        let capped = |score: f64| match self.number("attn_logit_softcapping") {
            Some(cap) => (score / cap).tanh() * cap,
            None => score,
        };
        let mut out = Vec::new();
        for (head, q) in query.chunks_exact(width).enumerate() {
            let kv_head = head / group * width..(head / group + 1) * width;
            let dot = |k: &[f64]| q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>();
            let weights: Vec<f64> = visible
                .iter()
                .map(|(k, _)| capped(dot(&k[kv_head.clone()]) / scalar.sqrt()).exp())
                .collect();
            let sum: f64 = weights.iter().sum();
            out.extend(kv_head.map(|d| {
                let values = visible.iter().zip(&weights);
                values.map(|((_, v), w)| v[d] * w / sum).sum::<f64>()
            }));
        }
        out
    }

    /// Returns `activation(gate) * up`.
    fn gated(&self, gate: &[f64], up: &[f64]) -> Vec<f64> {
        let active = |x: f64| {
            if self.model.is_gemma() {
                let inner = (2.0 / PI).sqrt() * (x + 0.044_715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            } else {
                x / (1.0 + (-x).exp())
            }
        };
        gate.iter().zip(up).map(|(g, u)| active(*g) * u).collect()
    }

    fn feed_forward(&self, layer: usize, x: &[f64]) -> Vec<f64> {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let gated_network = |[gate, up, down]: [String; 3]| {
            let gated = self.gated(&self.linear(&gate, x), &self.linear(&up, x));
            self.linear(&down, &gated)
        };
        let Some((_, used, _)) = self.model.experts(layer) else {
            if self.model.family() == "phi3" {
                let both = self.linear(&name("mlp.gate_up_proj"), x);
                let (gate, up) = both.split_at(both.len() / 2);
                return self.linear(&name("mlp.down_proj"), &self.gated(gate, up));
            }
            return gated_network(["gate", "up", "down"].map(|p| name(&format!("mlp.{p}_proj"))));
        };
        let (block, parts) = match self.model.family() {
            "mixtral" => ("block_sparse_moe", ["w1", "w3", "w2"]),
            _ => ("mlp", ["gate_proj", "up_proj", "down_proj"]),
        };
        let scores = self.linear(&name(&format!("{block}.gate")), x);
        let total: f64 = scores.iter().map(|s| s.exp()).sum();
        let mut selected: Vec<_> = scores.iter().map(|s| s.exp() / total).enumerate().collect();
        selected.sort_by(|a, b| b.1.total_cmp(&a.1));
        selected.truncate(used);
        let normalized = self.model.family() == "mixtral" || self.model.is("norm_topk_prob");
        let sum: f64 = selected.iter().map(|(_, weight)| weight).sum();
        let mut out = vec![0.0; x.len()];
        for (expert, weight) in selected {
            let weight = if normalized { weight / sum } else { weight };
            let parts = parts.map(|p| name(&format!("{block}.experts.{expert}.{p}")));
            let mut expert_out = gated_network(parts);
            for value in &mut expert_out {
                *value *= weight;
            }
            add(&mut out, &expert_out);
        }
        out
    }

    /// Returns the logits after every token.
    pub fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let model = self.model;
        let hidden = model.size("hidden_size");
        let post_norms = ["gemma2", "gemma3_text"].contains(&model.family());
        let embedding = self.weight("model.embed_tokens.weight");
        let mut caches = vec![Vec::<(Vec<f64>, Vec<f64>)>::new(); self.windows.len()];
        let mut out = Vec::new();
        for (position, token) in tokens.iter().enumerate() {
            let mut x = embedding[*token as usize * hidden..][..hidden].to_vec();
            if model.is_gemma() {
                for value in &mut x {
                    *value *= (hidden as f64).sqrt();
                }
            }
            for (layer, cache) in caches.iter_mut().enumerate() {
                let name = |part: &str| format!("model.layers.{layer}.{part}");
                let h = self.norm(&name("input_layernorm"), &x);
                let [query, key, value] = self.projected(layer, &h);
                let query = self.rotated(layer, "q", &query, position);
                cache.push((self.rotated(layer, "k", &key, position), value));
                let window = self.windows[layer].unwrap_or(usize::MAX);
                let visible = &cache[cache.len() - window.min(cache.len())..];
                let attended = self.attended(&query, visible);
                let mut attended = self.linear(&name("self_attn.o_proj"), &attended);
                if post_norms {
                    attended = self.norm(&name("post_attention_layernorm"), &attended);
                }
                add(&mut x, &attended);
                let norm = if post_norms {
                    "pre_feedforward_layernorm"
                } else {
                    "post_attention_layernorm"
                };
                let mut out = self.feed_forward(layer, &self.norm(&name(norm), &x));
                if post_norms {
                    out = self.norm(&name("post_feedforward_layernorm"), &out);
                }
                add(&mut x, &out);
            }
            let head = if model.is("tie_word_embeddings") {
                "model.embed_tokens"
            } else {
                "lm_head"
            };
            let mut logits = self.linear(head, &self.norm("model.norm", &x));
            if let Some(cap) = self.number("final_logit_softcapping") {
                for logit in &mut logits {
                    *logit = (*logit / cap).tanh() * cap;
                }
            }
            out.push(logits);
        }
        out
    }
}
