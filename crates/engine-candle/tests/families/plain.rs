//! The whole family written as its definition reads, in 64-bit floats, one token after
//! another.

use std::f64::consts::TAU;

use crate::tiny_model::TinyModel;

/// What the configuration says in many words.
pub struct Plain<'a> {
    pub model: &'a TinyModel,
    /// Tokens that a token of a layer sees.
    pub windows: Vec<Option<usize>>,
    /// For each pair of a head.
    pub frequencies: Vec<f64>,
    /// Of the rotation.
    pub scale: f64,
}

/// The frequencies without scaling.
pub fn frequencies(model: &TinyModel) -> Vec<f64> {
    let pairs = model.head_dim() / 2;
    let theta = model.config["rope_theta"].as_f64().unwrap();
    (0..pairs)
        .map(|pair| 1.0 / theta.powf(pair as f64 / pairs as f64))
        .collect()
}

/// YaRN: which share of a frequency is divided rises from 0 to 1 between the pair that turns
/// 32 times over the trained context and the one that turns once.
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

impl Plain<'_> {
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
        let epsilon = self.model.config["rms_norm_eps"].as_f64().unwrap();
        let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let weight = self.weight(&format!("{name}.weight"));
        let scaled = x.iter().map(|v| v / (mean + epsilon).sqrt());
        scaled.zip(weight).map(|(v, w)| v * w).collect()
    }

    /// Heads one after the other, each normalised where the family does so, and rotated.
    fn rotated(&self, layer: usize, part: &str, x: &[f64], position: usize) -> Vec<f64> {
        let width = self.model.head_dim();
        let norm = format!("model.layers.{layer}.self_attn.{part}_norm");
        let mut out = Vec::new();
        for head in x.chunks_exact(width) {
            let head = match self.model.family() {
                "qwen3" => self.norm(&norm, head),
                _ => head.to_vec(),
            };
            let mut turned = vec![0.0; width];
            for (pair, frequency) in self.frequencies.iter().enumerate() {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                let (a, b) = (head[pair], head[pair + width / 2]);
                turned[pair] = (a * cos - b * sin) * self.scale;
                turned[pair + width / 2] = (b * cos + a * sin) * self.scale;
            }
            out.extend(turned);
        }
        out
    }

    /// The logits after every token.
    #[allow(clippy::many_single_char_names)]
    pub fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let (model, width) = (self.model, self.model.head_dim());
        let hidden = model.size("hidden_size");
        let group = model.heads() / model.kv_heads();
        let embedding = self.weight("model.embed_tokens.weight");
        let mut caches = vec![Vec::<(Vec<f64>, Vec<f64>)>::new(); self.windows.len()];
        let mut out = Vec::new();
        for (position, token) in tokens.iter().enumerate() {
            let mut x = embedding[*token as usize * hidden..][..hidden].to_vec();
            for (layer, cache) in caches.iter_mut().enumerate() {
                let name = |part: &str| format!("model.layers.{layer}.{part}");
                let h = self.norm(&name("input_layernorm"), &x);
                let q = self.linear(&name("self_attn.q_proj"), &h);
                let k = self.linear(&name("self_attn.k_proj"), &h);
                let v = self.linear(&name("self_attn.v_proj"), &h);
                let q = self.rotated(layer, "q", &q, position);
                cache.push((self.rotated(layer, "k", &k, position), v));
                let window = self.windows[layer].unwrap_or(usize::MAX);
                let seen = &cache[cache.len() - window.min(cache.len())..];
                let mut attended = Vec::new();
                for (head, q) in q.chunks_exact(width).enumerate() {
                    let of = head / group * width..(head / group + 1) * width;
                    let dot = |k: &[f64]| q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>();
                    let weights: Vec<f64> = seen
                        .iter()
                        .map(|(k, _)| (dot(&k[of.clone()]) / (width as f64).sqrt()).exp())
                        .collect();
                    let sum: f64 = weights.iter().sum();
                    attended.extend(of.map(|d| {
                        let values = seen.iter().zip(&weights);
                        values.map(|((_, v), w)| v[d] * w / sum).sum::<f64>()
                    }));
                }
                add(&mut x, &self.linear(&name("self_attn.o_proj"), &attended));
                let h = self.norm(&name("post_attention_layernorm"), &x);
                let gate = self.linear(&name("mlp.gate_proj"), &h);
                let up = self.linear(&name("mlp.up_proj"), &h);
                let gated: Vec<f64> = gate
                    .iter()
                    .zip(up)
                    .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                    .collect();
                add(&mut x, &self.linear(&name("mlp.down_proj"), &gated));
            }
            let head = if model.is("tie_word_embeddings") {
                "model.embed_tokens"
            } else {
                "lm_head"
            };
            out.push(self.linear(head, &self.norm("model.norm", &x)));
        }
        out
    }
}
