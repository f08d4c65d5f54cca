use std::f32::consts::PI;

use crate::{architecture::Architecture, numbers::Numbers, sizes::Sizes};

/// Llama 3's bounds of scaled rotary frequencies, and its training context.
pub(crate) const LLAMA3_LOW: f32 = 1.0;
pub(crate) const LLAMA3_HIGH: f32 = 4.0;
pub(crate) const LLAMA3_CONTEXT: usize = 8192;

/// Role of a weight, which determines its storage type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A vector or a small matrix; always F32 in GGUF.
    Small,
    Embedding,
    Output,
    /// Value projection of a layer, alone or combined with queries and keys.
    Value(usize),
    /// Down projection of a layer.
    Down(usize),
    Other,
}

/// Order of rows in GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOrder {
    Unchanged,
    /// The two halves of each head of this width are interleaved, so that dimensions rotated
    /// together are adjacent.
    Interleaved(usize),
}

/// A tensor of a GGUF file and the equivalent safetensors tensors.
#[derive(Debug, Clone)]
pub(crate) struct Weight {
    pub(crate) gguf: String,
    /// Names in safetensors: several if GGUF stacks them, none if it is specific to GGUF.
    pub(crate) safetensors: Vec<String>,
    /// Dimensions in safetensors, outermost first.
    pub(crate) shape: Vec<usize>,
    pub(crate) role: Role,
    pub(crate) order: RowOrder,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    /// Random numbers, whose mean differs between the formats.
    Random {
        mean: f32,
        gguf_mean: f32,
        deviation: f32,
    },
    Fixed(Vec<f32>),
}

/// Tensor to generate for a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Gguf,
    /// The tensor with this index in [`Weight::safetensors`].
    Safetensors(usize),
}

impl Weight {
    pub(crate) fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Number of rows of one safetensors tensor.
    fn safetensors_rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    fn gguf_rows(&self) -> usize {
        self.safetensors_rows() * self.safetensors.len().max(1)
    }

    /// Dimensions in GGUF, outermost first.
    pub(crate) fn gguf_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.safetensors.len() > 1 {
            shape.insert(0, self.safetensors.len());
        }
        shape
    }

    pub(crate) fn rows(&self, target: Target) -> usize {
        match target {
            Target::Gguf => self.gguf_rows(),
            Target::Safetensors(_) => self.safetensors_rows(),
        }
    }

    /// Appends the numbers of a row to `out`.
    pub(crate) fn row(&self, seed: u64, target: Target, row: usize, out: &mut Vec<f32>) {
        let rows = self.safetensors_rows();
        let (tensor, row) = match target {
            Target::Gguf => (row / rows, self.source_row(row % rows)),
            Target::Safetensors(tensor) => (tensor, row),
        };
        match &self.content {
            Content::Fixed(values) => out.extend(values),
            Content::Random {
                mean,
                gguf_mean,
                deviation,
            } => {
                let name = self.safetensors.get(tensor).map_or("", String::as_str);
                let before = out.len();
                let mut numbers = Numbers::of_row(seed, name, row);
                numbers.fill(out, self.columns(), *mean, *deviation);
                if target == Target::Gguf && mean != gguf_mean {
                    let shift = gguf_mean - mean;
                    out[before..].iter_mut().for_each(|x| *x += shift);
                }
            }
        }
    }

    /// Returns the safetensors row that GGUF has at `row`.
    fn source_row(&self, row: usize) -> usize {
        match self.order {
            RowOrder::Unchanged => row,
            RowOrder::Interleaved(width) => {
                let (head, at) = (row / width, row % width);
                head * width + at % 2 * (width / 2) + at / 2
            }
        }
    }
}

/// Returns the weights of a model in file order.
pub(crate) fn weights(architecture: Architecture, sizes: &Sizes) -> Vec<Weight> {
    let mut list = WeightList {
        architecture,
        sizes,
        weights: Vec::new(),
    };
    list.matrix(
        ["token_embd", "model.embed_tokens"],
        [sizes.vocabulary, sizes.hidden],
        Role::Embedding,
        logit_deviation(sizes),
    );
    for layer in 0..sizes.layers {
        list.layer(layer);
    }
    list.norm(["output_norm", "model.norm"], sizes.hidden);
    if !sizes.tied {
        list.matrix(
            ["output", "lm_head"],
            [sizes.vocabulary, sizes.hidden],
            Role::Output,
            logit_deviation(sizes),
        );
    }
    if let Some(factor) = sizes.llama3_factor {
        list.weights.push(Weight {
            gguf: "rope_freqs.weight".into(),
            safetensors: Vec::new(),
            shape: vec![sizes.head_dim / 2],
            role: Role::Small,
            order: RowOrder::Unchanged,
            content: Content::Fixed(llama3_divisors(sizes, factor)),
        });
    }
    list.weights
}

/// Standard deviation of the output matrix for which logits of a normalized input have a standard
/// deviation of 2.
fn logit_deviation(sizes: &Sizes) -> f32 {
    2.0 / (sizes.hidden as f32).sqrt()
}

/// Returns Llama 3.1's divisors of the rotary frequencies.
fn llama3_divisors(sizes: &Sizes, factor: f32) -> Vec<f32> {
    let context = LLAMA3_CONTEXT as f32;
    (0..sizes.head_dim / 2)
        .map(|pair| {
            let exponent = 2.0 * pair as f32 / sizes.head_dim as f32;
            let wavelength = 2.0 * PI * sizes.rope_theta.powf(exponent);
            let turns = context / wavelength;
            if turns > LLAMA3_HIGH {
                1.0
            } else if turns < LLAMA3_LOW {
                factor
            } else {
                let kept = (turns - LLAMA3_LOW) / (LLAMA3_HIGH - LLAMA3_LOW);
                1.0 / ((1.0 - kept) / factor + kept)
            }
        })
        .collect()
}

struct WeightList<'a> {
    architecture: Architecture,
    sizes: &'a Sizes,
    weights: Vec<Weight>,
}

impl WeightList<'_> {
    fn push(
        &mut self,
        gguf: String,
        safetensors: Vec<String>,
        shape: Vec<usize>,
        role: Role,
        [mean, gguf_mean, deviation]: [f32; 3],
    ) {
        let content = Content::Random {
            mean,
            gguf_mean,
            deviation,
        };
        let order = RowOrder::Unchanged;
        self.weights.push(Weight {
            gguf,
            safetensors,
            shape,
            role,
            order,
            content,
        });
    }

    fn matrix(&mut self, [gguf, name]: [&str; 2], shape: [usize; 2], role: Role, deviation: f32) {
        self.push(
            format!("{gguf}.weight"),
            vec![format!("{name}.weight")],
            shape.to_vec(),
            role,
            [0.0, 0.0, deviation],
        );
    }

    /// Gemma's safetensors store the difference from 1.
    fn norm(&mut self, [gguf, name]: [&str; 2], width: usize) {
        let gemma = self.architecture == Architecture::Gemma3;
        let mean = if gemma { 0.0 } else { 1.0 };
        self.push(
            format!("{gguf}.weight"),
            vec![format!("{name}.weight")],
            vec![width],
            Role::Small,
            [mean, 1.0, 0.1],
        );
    }

    fn layer(&mut self, layer: usize) {
        let (gguf, prefix) = (format!("blk.{layer}"), format!("model.layers.{layer}"));
        let gemma = self.architecture == Architecture::Gemma3;
        let hidden = self.sizes.hidden;
        let mut norm = |in_gguf: &str, name: &str, width| {
            let names = [format!("{gguf}.{in_gguf}"), format!("{prefix}.{name}")];
            self.norm([&names[0], &names[1]], width);
        };
        norm("attn_norm", "input_layernorm", hidden);
        if gemma {
            norm("post_attention_norm", "post_attention_layernorm", hidden);
            norm("ffn_norm", "pre_feedforward_layernorm", hidden);
            norm("post_ffw_norm", "post_feedforward_layernorm", hidden);
        } else {
            norm("ffn_norm", "post_attention_layernorm", hidden);
        }
        self.attention(layer, &gguf, &prefix);
        if self.architecture.has_experts() {
            self.experts(layer, &gguf, &prefix);
        } else {
            self.feed_forward(layer, &gguf, &prefix);
        }
    }

    /// Standard deviation of matrices whose output is added to the residual stream. It decreases
    /// with the number of layers, so that the embedding still matters in a deep model.
    fn residual_deviation(&self, columns: usize) -> f32 {
        (1.0 / (columns * 2 * self.sizes.layers) as f32).sqrt()
    }

    fn attention(&mut self, layer: usize, gguf: &str, prefix: &str) {
        let sizes = self.sizes;
        let (hidden, width) = (sizes.hidden, sizes.head_dim);
        let (queries, keys) = (sizes.heads * width, sizes.kv_heads * width);
        let input_deviation = (1.0 / hidden as f32).sqrt();
        let prefix = format!("{prefix}.self_attn");
        if self.architecture == Architecture::Phi3 {
            self.matrix(
                [&format!("{gguf}.attn_qkv"), &format!("{prefix}.qkv_proj")],
                [queries + 2 * keys, hidden],
                Role::Value(layer),
                input_deviation,
            );
        } else {
            for (part, rows, role) in [
                ("q", queries, Role::Other),
                ("k", keys, Role::Other),
                ("v", keys, Role::Value(layer)),
            ] {
                let names = [
                    format!("{gguf}.attn_{part}"),
                    format!("{prefix}.{part}_proj"),
                ];
                self.matrix(
                    [&names[0], &names[1]],
                    [rows, hidden],
                    role,
                    input_deviation,
                );
                if part != "v" && self.architecture.interleaves_heads_in_gguf() {
                    self.interleave_last(width);
                }
                if self.architecture == Architecture::Qwen2 {
                    self.push(
                        format!("{}.bias", names[0]),
                        vec![format!("{}.bias", names[1])],
                        vec![rows],
                        Role::Small,
                        [0.0, 0.0, 0.3],
                    );
                }
            }
        }
        if self.architecture.has_head_norms() {
            for part in ["q", "k"] {
                let names = [
                    format!("{gguf}.attn_{part}_norm"),
                    format!("{prefix}.{part}_norm"),
                ];
                self.norm([&names[0], &names[1]], width);
            }
        }
        self.matrix(
            [&format!("{gguf}.attn_output"), &format!("{prefix}.o_proj")],
            [hidden, queries],
            Role::Other,
            self.residual_deviation(queries),
        );
    }

    fn interleave_last(&mut self, width: usize) {
        if let Some(weight) = self.weights.last_mut() {
            weight.order = RowOrder::Interleaved(width);
        }
    }

    fn feed_forward(&mut self, layer: usize, gguf: &str, prefix: &str) {
        let (hidden, inner) = (self.sizes.hidden, self.sizes.inner);
        let input_deviation = (1.0 / hidden as f32).sqrt();
        let parts: &[_] = if self.architecture == Architecture::Phi3 {
            &[("ffn_up", "gate_up_proj", 2 * inner)]
        } else {
            &[
                ("ffn_gate", "gate_proj", inner),
                ("ffn_up", "up_proj", inner),
            ]
        };
        for (in_gguf, name, rows) in parts {
            let names = [format!("{gguf}.{in_gguf}"), format!("{prefix}.mlp.{name}")];
            self.matrix(
                [&names[0], &names[1]],
                [*rows, hidden],
                Role::Other,
                input_deviation,
            );
        }
        let names = [
            format!("{gguf}.ffn_down"),
            format!("{prefix}.mlp.down_proj"),
        ];
        let deviation = self.residual_deviation(inner) * 2.0;
        self.matrix(
            [&names[0], &names[1]],
            [hidden, inner],
            Role::Down(layer),
            deviation,
        );
    }

    fn experts(&mut self, layer: usize, gguf: &str, prefix: &str) {
        let (hidden, experts) = (self.sizes.hidden, self.sizes.experts);
        let input_deviation = (1.0 / hidden as f32).sqrt();
        let mixtral = self.architecture == Architecture::Mixtral;
        let part = if mixtral { "block_sparse_moe" } else { "mlp" };
        let prefix = format!("{prefix}.{part}");
        self.matrix(
            [&format!("{gguf}.ffn_gate_inp"), &format!("{prefix}.gate")],
            [experts.count, hidden],
            Role::Small,
            input_deviation,
        );
        let stream = self.residual_deviation(experts.inner) * 2.0;
        for (in_gguf, in_mixtral, in_qwen, shape, role, deviation) in [
            (
                "gate",
                "w1",
                "gate_proj",
                [experts.inner, hidden],
                Role::Other,
                input_deviation,
            ),
            (
                "up",
                "w3",
                "up_proj",
                [experts.inner, hidden],
                Role::Other,
                input_deviation,
            ),
            (
                "down",
                "w2",
                "down_proj",
                [hidden, experts.inner],
                Role::Down(layer),
                stream,
            ),
        ] {
            let name = if mixtral { in_mixtral } else { in_qwen };
            let names = (0..experts.count)
                .map(|expert| format!("{prefix}.experts.{expert}.{name}.weight"))
                .collect();
            self.push(
                format!("{gguf}.ffn_{in_gguf}_exps.weight"),
                names,
                shape.to_vec(),
                role,
                [0.0, 0.0, deviation],
            );
        }
    }
}
