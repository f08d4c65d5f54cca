//! A reference implementation in `f64`, token by token, directly from the definitions.

use cpu_kernels::Activation;
use model_format::{ModelHeader, RopeScaling, TensorType};

use crate::{
    architecture::Architecture,
    tensor_names::{ExpertPart, LayerPart, Part},
    tiny_models::{TinyTensor, tiny_tensors},
};

pub(super) struct Reference {
    header: ModelHeader,
    architecture: Architecture,
    tensors: Vec<(Part, Vec<f64>)>,
    kind: TensorType,
}

/// Rounds activations as Q8_0 products do: to 8 bits with one scale per 32 values.
fn rounded(x: &[f64]) -> Vec<f64> {
    let block = |block: &[f64]| {
        let largest = block.iter().fold(0.0, |l: f64, v| l.max(v.abs()));
        let step = largest as f32 / 127.0;
        let round = |v: &f64| f64::from((*v as f32 / step).round_ties_even()) * f64::from(step);
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

fn add(x: &mut [f64], more: &[f64], times: f64) {
    x.iter_mut().zip(more).for_each(|(x, m)| *x += m * times);
}

fn capped(x: f64, cap: Option<f32>) -> f64 {
    match cap.map(f64::from) {
        Some(cap) => (x / cap).tanh() * cap,
        None => x,
    }
}

impl Reference {
    pub(super) fn new(header: ModelHeader, kind: TensorType) -> Self {
        let architecture = Architecture::named(&header.architecture, header.format).unwrap();
        let tensors = tiny_tensors(&header, architecture, kind);
        Self {
            tensors: tensors.iter().map(|t| (t.part, dequantized(t))).collect(),
            header,
            architecture,
            kind,
        }
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
        let offset = f64::from(self.architecture.norm_offset(self.header.format));
        let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let weight = self.weight(part);
        x.iter()
            .zip(weight)
            .map(|(v, w)| v / (mean + 1e-5).sqrt() * (w + offset))
            .collect()
    }

    /// Applies a post-norm if the family has them.
    fn post_norm(&self, part: Part, x: Vec<f64>) -> Vec<f64> {
        if self.architecture.post_norms {
            self.norm(part, &x)
        } else {
            x
        }
    }

    fn rotate(&self, layer: u32, head: &mut [f64], position: usize) {
        let header = &self.header;
        let half = header.rope_dimensions as usize / 2;
        let local = header
            .rope_local_theta
            .filter(|_| self.window(layer).is_some());
        for i in 0..half {
            let theta = f64::from(local.unwrap_or(header.rope_theta));
            let mut frequency = theta.powf(-(i as f64) / half as f64);
            let mut scale = 1.0;
            match &header.rope_scaling {
                RopeScaling::Linear { factor } if local.is_none() => {
                    frequency /= f64::from(*factor);
                }
                RopeScaling::LongRope {
                    factors: Some(factors),
                    attention_factor,
                    ..
                } => {
                    frequency /= f64::from(factors.long[i]);
                    scale = f64::from(*attention_factor);
                }
                _ => {}
            }
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            let (a, b) = (head[i], head[i + half]);
            head[i] = (a * cos - b * sin) * scale;
            head[i + half] = (b * cos + a * sin) * scale;
        }
    }

    fn window(&self, layer: u32) -> Option<usize> {
        let window = self.header.sliding_window.as_ref()?;
        window
            .is_in(layer)
            .unwrap()
            .then_some(window.tokens as usize)
    }

    fn projected(&self, layer: u32, x: &[f64]) -> [Vec<f64>; 3] {
        let part = |p| Part::Layer(layer, p);
        if !self.architecture.fused {
            let parts = [LayerPart::Query, LayerPart::Key, LayerPart::Value];
            return parts.map(|p| self.product(part(p), x));
        }
        let all = self.product(part(LayerPart::QueryKeyValue), x);
        [&all[..64], &all[64..96], &all[96..]].map(<[f64]>::to_vec)
    }

    fn attended(&self, layer: u32, query: &[f64], cache: &[(Vec<f64>, Vec<f64>)]) -> Vec<f64> {
        let visible = self.window(layer).unwrap_or(usize::MAX).min(cache.len());
        let cache = &cache[cache.len() - visible..];
        let scale = self.header.attention_scale.map_or(0.25, f64::from);
        let mut attended = Vec::new();
        for (index, q) in query.chunks_exact(16).enumerate() {
            // Two query heads share one key-value head.
            let head = index / 2 * 16..index / 2 * 16 + 16;
            let dot = |k: &[f64]| q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>();
            let score = |k: &[f64]| capped(dot(k) * scale, self.header.attention_softcap);
            let weights: Vec<f64> = cache
                .iter()
                .map(|(k, _)| score(&k[head.clone()]).exp())
                .collect();
            let sum: f64 = weights.iter().sum();
            attended.extend(head.map(|d| {
                let values = cache.iter().zip(&weights);
                values.map(|((_, v), w)| v[d] * w / sum).sum::<f64>()
            }));
        }
        attended
    }

    fn gated(&self, gate: &[f64], up: &[f64]) -> Vec<f64> {
        let active = |x: f64| match self.architecture.activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            }
        };
        gate.iter().zip(up).map(|(g, u)| active(*g) * u).collect()
    }

    fn feed_forward(&self, layer: u32, x: &[f64]) -> Vec<f64> {
        let product = |part, x: &[f64]| self.product(Part::Layer(layer, part), x);
        let Some(experts) = &self.header.experts else {
            let (gate, up) = if self.architecture.fused {
                let both = product(LayerPart::GateUp, x);
                (both[..96].to_vec(), both[96..].to_vec())
            } else {
                (product(LayerPart::Gate, x), product(LayerPart::Up, x))
            };
            return product(LayerPart::Down, &self.gated(&gate, &up));
        };
        let scores = product(LayerPart::Router, x);
        let mut selected: Vec<_> = (0..).zip(scores.iter().map(|s| s.exp())).collect();
        selected.sort_by(|a, b| b.1.total_cmp(&a.1));
        selected.truncate(experts.used as usize);
        let sum: f64 = selected.iter().map(|(_, w)| w).sum();
        let mut out = vec![0.0; x.len()];
        for (index, weight) in selected {
            let part = |part| LayerPart::Expert(index, part);
            let gate = product(part(ExpertPart::Gate), x);
            let up = product(part(ExpertPart::Up), x);
            let down = product(part(ExpertPart::Down), &self.gated(&gate, &up));
            add(&mut out, &down, weight / sum);
        }
        out
    }

    pub(super) fn logits(&self, prompt: &[u32]) -> Vec<f64> {
        let output = if self.header.tied_embeddings {
            Part::Embedding
        } else {
            Part::Output
        };
        let states = self.states(prompt);
        let last = states.last().map_or(&[][..], Vec::as_slice);
        let cap = self.header.logit_softcap;
        let logits = self.product(output, last).into_iter();
        logits.map(|l| capped(l, cap)).collect()
    }

    /// Returns the state of every token after the final norm.
    pub(super) fn states(&self, prompt: &[u32]) -> Vec<Vec<f64>> {
        let mut cache = [const { Vec::<(Vec<f64>, Vec<f64>)>::new() }; 2];
        let mut states = Vec::new();
        for (position, token) in prompt.iter().enumerate() {
            let row = *token as usize * 64;
            let mut x = self.weight(Part::Embedding)[row..row + 64].to_vec();
            if self.architecture.scaled_embedding {
                for value in &mut x {
                    *value *= 8.0;
                }
            }
            for (layer, cache) in (0..).zip(&mut cache) {
                let part = |p| Part::Layer(layer, p);
                let h = self.norm(part(LayerPart::AttentionNorm), &x);
                let [mut query, mut key, value] = self.projected(layer, &h);
                for (heads, norm) in [
                    (&mut query, LayerPart::QueryNorm),
                    (&mut key, LayerPart::KeyNorm),
                ] {
                    for head in heads.chunks_exact_mut(16) {
                        if self.architecture.head_norms {
                            head.copy_from_slice(&self.norm(part(norm), head));
                        }
                        self.rotate(layer, head, position);
                    }
                }
                cache.push((key, value));
                let attended = self.attended(layer, &query, cache);
                let attended = self.product(part(LayerPart::AttentionOutput), &attended);
                let attended = self.post_norm(part(LayerPart::AttentionPostNorm), attended);
                add(&mut x, &attended, 1.0);
                let h = self.norm(part(LayerPart::FeedForwardNorm), &x);
                let out = self.feed_forward(layer, &h);
                let out = self.post_norm(part(LayerPart::FeedForwardPostNorm), out);
                add(&mut x, &out, 1.0);
            }
            states.push(self.norm(Part::FinalNorm, &x));
        }
        states
    }
}
