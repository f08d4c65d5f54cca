use std::f32::consts::PI;

use crate::{Architecture, Sizes, numbers::Numbers};

/// Low and high bound of Llama 3's stretched frequencies, and the context it was trained with.
pub(crate) const LLAMA3_LOW: f32 = 1.0;
pub(crate) const LLAMA3_HIGH: f32 = 4.0;
pub(crate) const LLAMA3_CONTEXT: usize = 8192;

/// What decides about a weight's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A vector, or a matrix too small to matter: always 32-bit floats in GGUF.
    Small,
    Embedding,
    Output,
    /// Values of this layer, alone or with queries and keys.
    Value(usize),
    /// The matrix out of the feed-forward part of this layer.
    Down(usize),
    Other,
}

/// Order of the rows in GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOrder {
    AsInFolder,
    /// In each head of this width, the two numbers that turn together are neighbours; in a
    /// folder the second is half a head behind the first.
    Pairs(usize),
}

/// One tensor of a GGUF file, and the tensors of a folder that hold the same.
#[derive(Debug, Clone)]
pub(crate) struct Weight {
    pub(crate) gguf: String,
    /// Names in a folder; several are stacked in GGUF, none where a folder has no such tensor.
    pub(crate) folder: Vec<String>,
    /// Sizes in a folder, slowest first.
    pub(crate) shape: Vec<usize>,
    pub(crate) role: Role,
    pub(crate) order: RowOrder,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    /// Random numbers; GGUF's have a mean of their own.
    Random {
        mean: f32,
        gguf_mean: f32,
        deviation: f32,
    },
    Given(Vec<f32>),
}

/// In what a weight is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Gguf,
    /// The tensor with this index among [`Weight::folder`].
    Folder(usize),
}

impl Weight {
    /// Numbers in a row.
    pub(crate) fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows of one tensor of a folder.
    fn folder_rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// Rows of the tensor in GGUF.
    pub(crate) fn gguf_rows(&self) -> usize {
        self.folder_rows() * self.folder.len().max(1)
    }

    /// Sizes in GGUF, slowest first.
    pub(crate) fn gguf_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.folder.len() > 1 {
            shape.insert(0, self.folder.len());
        }
        shape
    }

    /// Rows in that place.
    pub(crate) fn rows(&self, place: Place) -> usize {
        match place {
            Place::Gguf => self.gguf_rows(),
            Place::Folder(_) => self.folder_rows(),
        }
    }

    /// Adds a row's numbers to `out`.
    pub(crate) fn row(&self, seed: u64, place: Place, row: usize, out: &mut Vec<f32>) {
        let rows = self.folder_rows();
        let (tensor, row) = match place {
            Place::Gguf => (row / rows, self.folder_row(row % rows)),
            Place::Folder(tensor) => (tensor, row),
        };
        match &self.content {
            Content::Given(values) => out.extend(values),
            Content::Random {
                mean,
                gguf_mean,
                deviation,
            } => {
                let name = self.folder.get(tensor).map_or("", String::as_str);
                let before = out.len();
                let mut numbers = Numbers::of_row(seed, name, row);
                numbers.fill(out, self.columns(), *mean, *deviation);
                if place == Place::Gguf && mean != gguf_mean {
                    let shift = gguf_mean - mean;
                    out[before..].iter_mut().for_each(|x| *x += shift);
                }
            }
        }
    }

    /// Where a folder has the row that GGUF has at `row`.
    fn folder_row(&self, row: usize) -> usize {
        match self.order {
            RowOrder::AsInFolder => row,
            RowOrder::Pairs(width) => {
                let (head, at) = (row / width, row % width);
                head * width + at % 2 * (width / 2) + at / 2
            }
        }
    }
}

/// Every weight of a model, in the order of the file.
pub(crate) fn weights(architecture: Architecture, sizes: &Sizes) -> Vec<Weight> {
    let mut list = List {
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
            folder: Vec::new(),
            shape: vec![sizes.head_dim / 2],
            role: Role::Small,
            order: RowOrder::AsInFolder,
            content: Content::Given(llama3_divisors(sizes, factor)),
        });
    }
    list.weights
}

/// Of the matrix that makes the logits: with a normed input they deviate by 2 then.
fn logit_deviation(sizes: &Sizes) -> f32 {
    2.0 / (sizes.hidden as f32).sqrt()
}

/// What each rotary frequency is divided by: Llama 3.1's rule.
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

struct List<'a> {
    architecture: Architecture,
    sizes: &'a Sizes,
    weights: Vec<Weight>,
}

impl List<'_> {
    fn push(
        &mut self,
        gguf: String,
        folder: Vec<String>,
        shape: Vec<usize>,
        role: Role,
        [mean, gguf_mean, deviation]: [f32; 3],
    ) {
        let content = Content::Random {
            mean,
            gguf_mean,
            deviation,
        };
        let order = RowOrder::AsInFolder;
        self.weights.push(Weight {
            gguf,
            folder,
            shape,
            role,
            order,
            content,
        });
    }

    fn matrix(&mut self, [gguf, folder]: [&str; 2], shape: [usize; 2], role: Role, deviation: f32) {
        self.push(
            format!("{gguf}.weight"),
            vec![format!("{folder}.weight")],
            shape.to_vec(),
            role,
            [0.0, 0.0, deviation],
        );
    }

    /// Gemma's folders have what is to be added to 1.
    fn norm(&mut self, [gguf, folder]: [&str; 2], width: usize) {
        let gemma = self.architecture == Architecture::Gemma3;
        let mean = if gemma { 0.0 } else { 1.0 };
        self.push(
            format!("{gguf}.weight"),
            vec![format!("{folder}.weight")],
            vec![width],
            Role::Small,
            [mean, 1.0, 0.1],
        );
    }

    fn layer(&mut self, layer: usize) {
        let (gguf, folder) = (format!("blk.{layer}"), format!("model.layers.{layer}"));
        let gemma = self.architecture == Architecture::Gemma3;
        let hidden = self.sizes.hidden;
        let mut norm = |in_gguf: &str, in_folder: &str, width| {
            let names = [format!("{gguf}.{in_gguf}"), format!("{folder}.{in_folder}")];
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
        self.attention(layer, &gguf, &folder);
        if self.architecture.has_experts() {
            self.experts(layer, &gguf, &folder);
        } else {
            self.feed_forward(layer, &gguf, &folder);
        }
    }

    /// Matrices that add to the residual stream are the smaller the more there are, so that
    /// a deep model does not drown its tokens.
    fn stream_deviation(&self, columns: usize) -> f32 {
        (1.0 / (columns * 2 * self.sizes.layers) as f32).sqrt()
    }

    fn attention(&mut self, layer: usize, gguf: &str, folder: &str) {
        let sizes = self.sizes;
        let (hidden, width) = (sizes.hidden, sizes.head_dim);
        let (queries, keys) = (sizes.heads * width, sizes.kv_heads * width);
        let usual = (1.0 / hidden as f32).sqrt();
        let folder = format!("{folder}.self_attn");
        if self.architecture == Architecture::Phi3 {
            self.matrix(
                [&format!("{gguf}.attn_qkv"), &format!("{folder}.qkv_proj")],
                [queries + 2 * keys, hidden],
                Role::Value(layer),
                usual,
            );
        } else {
            for (part, rows, role) in [
                ("q", queries, Role::Other),
                ("k", keys, Role::Other),
                ("v", keys, Role::Value(layer)),
            ] {
                let names = [
                    format!("{gguf}.attn_{part}"),
                    format!("{folder}.{part}_proj"),
                ];
                self.matrix([&names[0], &names[1]], [rows, hidden], role, usual);
                if part != "v" && self.architecture.pairs_in_gguf() {
                    self.reorder_last(width);
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
                    format!("{folder}.{part}_norm"),
                ];
                self.norm([&names[0], &names[1]], width);
            }
        }
        self.matrix(
            [&format!("{gguf}.attn_output"), &format!("{folder}.o_proj")],
            [hidden, queries],
            Role::Other,
            self.stream_deviation(queries),
        );
    }

    fn reorder_last(&mut self, width: usize) {
        if let Some(weight) = self.weights.last_mut() {
            weight.order = RowOrder::Pairs(width);
        }
    }

    fn feed_forward(&mut self, layer: usize, gguf: &str, folder: &str) {
        let (hidden, inner) = (self.sizes.hidden, self.sizes.inner);
        let usual = (1.0 / hidden as f32).sqrt();
        let parts: &[_] = if self.architecture == Architecture::Phi3 {
            &[("ffn_up", "gate_up_proj", 2 * inner)]
        } else {
            &[
                ("ffn_gate", "gate_proj", inner),
                ("ffn_up", "up_proj", inner),
            ]
        };
        for (in_gguf, in_folder, rows) in parts {
            let names = [
                format!("{gguf}.{in_gguf}"),
                format!("{folder}.mlp.{in_folder}"),
            ];
            self.matrix([&names[0], &names[1]], [*rows, hidden], Role::Other, usual);
        }
        let names = [
            format!("{gguf}.ffn_down"),
            format!("{folder}.mlp.down_proj"),
        ];
        let deviation = self.stream_deviation(inner) * 2.0;
        self.matrix(
            [&names[0], &names[1]],
            [hidden, inner],
            Role::Down(layer),
            deviation,
        );
    }

    fn experts(&mut self, layer: usize, gguf: &str, folder: &str) {
        let (hidden, experts) = (self.sizes.hidden, self.sizes.experts);
        let usual = (1.0 / hidden as f32).sqrt();
        let mixtral = self.architecture == Architecture::Mixtral;
        let part = if mixtral { "block_sparse_moe" } else { "mlp" };
        let folder = format!("{folder}.{part}");
        self.matrix(
            [&format!("{gguf}.ffn_gate_inp"), &format!("{folder}.gate")],
            [experts.count, hidden],
            Role::Small,
            usual,
        );
        let stream = self.stream_deviation(experts.inner) * 2.0;
        for (in_gguf, in_mixtral, in_qwen, shape, role, deviation) in [
            (
                "gate",
                "w1",
                "gate_proj",
                [experts.inner, hidden],
                Role::Other,
                usual,
            ),
            (
                "up",
                "w3",
                "up_proj",
                [experts.inner, hidden],
                Role::Other,
                usual,
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
            let folder = (0..experts.count)
                .map(|expert| format!("{folder}.experts.{expert}.{name}.weight"))
                .collect();
            self.push(
                format!("{gguf}.ffn_{in_gguf}_exps.weight"),
                folder,
                shape.to_vec(),
                role,
                [0.0, 0.0, deviation],
            );
        }
    }
}
