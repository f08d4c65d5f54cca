//! Tiny models with pseudo-random weights.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value, json};

pub const VOCAB_SIZE: usize = 96;

/// Every `model_type` that is supported.
pub const FAMILIES: [&str; 10] = [
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi3",
];

/// A model in Hugging Face format.
pub struct TinyModel {
    pub config: Value,
    pub tensors: BTreeMap<String, Values>,
}

#[derive(Clone)]
pub struct Values {
    pub shape: Vec<usize>,
    pub numbers: Vec<f32>,
}

impl TinyModel {
    /// Creates a model of the given `model_type`; `changes` are added to its configuration.
    pub fn new(family: &str, changes: &Value) -> Self {
        let mut config = json!({
            "model_type": family, "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
            "vocab_size": VOCAB_SIZE, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
            "rope_theta": 10_000.0, "hidden_act": "silu", "tie_word_embeddings": false,
        });
        let family_keys = family_keys(family);
        for keys in [&family_keys, changes] {
            let keys = keys.as_object().unwrap().clone();
            config.as_object_mut().unwrap().extend(keys);
        }
        let mut model = Self {
            config,
            tensors: BTreeMap::new(),
        };
        model.fill();
        model
    }

    pub fn size(&self, key: &str) -> usize {
        self.config[key].as_u64().unwrap() as usize
    }

    pub fn is(&self, key: &str) -> bool {
        self.config[key].as_bool().unwrap_or(false)
    }

    pub fn family(&self) -> &str {
        self.config["model_type"].as_str().unwrap()
    }

    pub fn is_gemma(&self) -> bool {
        self.family().starts_with("gemma")
    }

    pub fn head_dim(&self) -> usize {
        let explicit = self.config["head_dim"].as_u64();
        explicit.map_or(self.size("hidden_size") / self.heads(), |w| w as usize)
    }

    pub fn heads(&self) -> usize {
        self.size("num_attention_heads")
    }

    pub fn kv_heads(&self) -> usize {
        self.size("num_key_value_heads")
    }

    /// Returns the number of experts of a layer, the number per token, and their inner width.
    pub fn experts(&self, layer: usize) -> Option<(usize, usize, usize)> {
        let used = || self.size("num_experts_per_tok");
        match self.family() {
            "mixtral" => Some((
                self.size("num_local_experts"),
                used(),
                self.size("intermediate_size"),
            )),
            "qwen3_moe" => {
                let dense = self.config["mlp_only_layers"].as_array().unwrap();
                let sparse = (layer + 1).is_multiple_of(self.size("decoder_sparse_step"))
                    && !dense.contains(&json!(layer));
                let inner = self.size("moe_intermediate_size");
                sparse.then(|| (self.size("num_experts"), used(), inner))
            }
            _ => None,
        }
    }

    /// Returns the name, rows, columns and presence of a bias of each matrix of a layer, except
    /// those of experts.
    fn matrices(&self, layer: usize) -> Vec<(&'static str, usize, usize, bool)> {
        let (hidden, inner) = (self.size("hidden_size"), self.size("intermediate_size"));
        let queries = self.heads() * self.head_dim();
        let keys = self.kv_heads() * self.head_dim();
        let attention_bias = self.is("attention_bias");
        let qkv_bias = attention_bias || self.family() == "qwen2";
        let mlp_bias = self.is("mlp_bias");
        let mut out = if self.family() == "phi3" {
            vec![("self_attn.qkv_proj", queries + 2 * keys, hidden, false)]
        } else {
            vec![
                ("self_attn.q_proj", queries, hidden, qkv_bias),
                ("self_attn.k_proj", keys, hidden, qkv_bias),
                ("self_attn.v_proj", keys, hidden, qkv_bias),
            ]
        };
        out.push(("self_attn.o_proj", hidden, queries, attention_bias));
        match (self.family(), self.experts(layer)) {
            ("mixtral", Some((count, ..))) => {
                out.push(("block_sparse_moe.gate", count, hidden, false));
            }
            (_, Some((count, ..))) => out.push(("mlp.gate", count, hidden, false)),
            ("phi3", None) => out.extend([
                ("mlp.gate_up_proj", 2 * inner, hidden, false),
                ("mlp.down_proj", hidden, inner, false),
            ]),
            _ => out.extend([
                ("mlp.gate_proj", inner, hidden, mlp_bias),
                ("mlp.up_proj", inner, hidden, mlp_bias),
                ("mlp.down_proj", hidden, inner, mlp_bias),
            ]),
        }
        out
    }

    fn norms(&self) -> Vec<(&'static str, usize)> {
        let (hidden, width) = (self.size("hidden_size"), self.head_dim());
        let mut out = vec![
            ("input_layernorm", hidden),
            ("post_attention_layernorm", hidden),
        ];
        if ["gemma2", "gemma3_text"].contains(&self.family()) {
            out.extend([
                ("pre_feedforward_layernorm", hidden),
                ("post_feedforward_layernorm", hidden),
            ]);
        }
        if ["qwen3", "qwen3_moe", "gemma3_text"].contains(&self.family()) {
            out.extend([("self_attn.q_norm", width), ("self_attn.k_norm", width)]);
        }
        out
    }

    fn fill(&mut self) {
        let hidden = self.size("hidden_size");
        let tied = self.is("tie_word_embeddings");
        // Gemma files store norm weights minus one.
        let norm_mean = if self.is_gemma() { 0.0 } else { 1.0 };
        let norms = self.norms();
        let layers: Vec<_> = (0..self.size("num_hidden_layers"))
            .map(|layer| (self.matrices(layer), self.experts(layer)))
            .collect();
        let mixtral = self.family() == "mixtral";

        let mut random = PseudoRandom(0x5eed);
        let mut add = |name: String, shape: &[usize], mean: f32, spread: f32| {
            let count = shape.iter().product();
            let numbers = (0..count).map(|_| mean + spread * random.next()).collect();
            let shape = shape.to_vec();
            self.tensors.insert(name, Values { shape, numbers });
        };
        add(
            "model.embed_tokens.weight".into(),
            &[VOCAB_SIZE, hidden],
            0.0,
            2.0,
        );
        for (layer, (matrices, experts)) in layers.into_iter().enumerate() {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            for (part, rows, columns, has_bias) in matrices {
                let name = name(part);
                add(format!("{name}.weight"), &[rows, columns], 0.0, 0.5);
                if has_bias {
                    add(format!("{name}.bias"), &[rows], 0.0, 0.5);
                }
            }
            let (count, inner) = experts.map_or((0, 0), |(count, _, inner)| (count, inner));
            for index in 0..count {
                let (prefix, parts) = if mixtral {
                    ("block_sparse_moe", ["w1", "w3", "w2"])
                } else {
                    ("mlp", ["gate_proj", "up_proj", "down_proj"])
                };
                let sizes = [[inner, hidden], [inner, hidden], [hidden, inner]];
                for (part, size) in parts.iter().zip(sizes) {
                    let part = name(&format!("{prefix}.experts.{index}.{part}.weight"));
                    add(part, &size, 0.0, 0.5);
                }
            }
            for (part, width) in &norms {
                add(name(&format!("{part}.weight")), &[*width], norm_mean, 0.5);
            }
        }
        add("model.norm.weight".into(), &[hidden], norm_mean, 0.5);
        if !tied {
            add("lm_head.weight".into(), &[VOCAB_SIZE, hidden], 0.0, 0.5);
        }
    }

    /// Writes `config.json`, `tokenizer.json` and `model.safetensors`.
    pub fn write_to(&self, directory: &Path) {
        let write = |name: &str, bytes: &[u8]| std::fs::write(directory.join(name), bytes).unwrap();
        write("config.json", self.config.to_string().as_bytes());
        write("tokenizer.json", tokenizer().to_string().as_bytes());
        let (mut header, mut data) = (Map::new(), Vec::new());
        for (name, values) in &self.tensors {
            let begin = data.len();
            data.extend(values.numbers.iter().flat_map(|n| n.to_le_bytes()));
            let info = json!({
                "dtype": "F32", "shape": values.shape, "data_offsets": [begin, data.len()]
            });
            header.insert(name.clone(), info);
        }
        let header = Value::from(header).to_string();
        let length = (header.len() as u64).to_le_bytes();
        write(
            "model.safetensors",
            &[&length, header.as_bytes(), &data].concat(),
        );
    }
}

/// Returns the configuration keys that a family adds.
fn family_keys(family: &str) -> Value {
    let gemma = |more: Value| {
        let mut keys = json!({
            "head_dim": 32, "hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": true,
            "hidden_activation": "gelu_pytorch_tanh", "attention_bias": false,
        });
        let more = more.as_object().unwrap().clone();
        keys.as_object_mut().unwrap().extend(more);
        keys
    };
    match family {
        "mistral" | "phi3" => json!({"sliding_window": null}),
        "mixtral" => json!({
            "sliding_window": null, "num_local_experts": 4, "num_experts_per_tok": 2
        }),
        "qwen2" => json!({
            "use_sliding_window": false, "sliding_window": 8, "max_window_layers": 2
        }),
        "qwen3" => json!({
            "use_sliding_window": false, "sliding_window": null, "max_window_layers": 2,
            "head_dim": 32, "attention_bias": false
        }),
        "qwen3_moe" => json!({
            "use_sliding_window": false, "sliding_window": null, "max_window_layers": 2,
            "head_dim": 32, "attention_bias": false, "num_experts": 6,
            "num_experts_per_tok": 3, "moe_intermediate_size": 32, "norm_topk_prob": true,
            "decoder_sparse_step": 1, "mlp_only_layers": []
        }),
        "gemma" => gemma(json!({})),
        "gemma2" => gemma(json!({
            "sliding_window": 128, "query_pre_attn_scalar": 32,
            "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0
        })),
        "gemma3_text" => gemma(json!({
            "sliding_window": 128, "sliding_window_pattern": 2, "query_pre_attn_scalar": 32,
            "rope_theta": 500_000.0, "rope_local_base_freq": 10_000.0
        })),
        _ => json!({"attention_bias": false, "mlp_bias": false}),
    }
}

/// Returns one token per printable character, the space and the line feed.
pub fn tokens() -> Vec<String> {
    ('!'..='~').chain(['Ġ', 'Ċ']).map(String::from).collect()
}

fn tokenizer() -> Value {
    let vocabulary: Map<String, Value> = (0..).zip(tokens()).map(|(i, t)| (t, i.into())).collect();
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
    });
    json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null,
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    })
}

/// Pseudo-random numbers that are the same on every machine (SplitMix64).
pub struct PseudoRandom(pub u64);

impl PseudoRandom {
    /// Returns a value from -0.5 up to 0.5.
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32 - 0.5
    }
}
