//! Tiny models with random weights, always the same ones.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value, json};

pub const VOCABULARY: usize = 96;

/// A model as Hugging Face's folders have it.
pub struct TinyModel {
    pub config: Value,
    pub tensors: BTreeMap<String, Values>,
}

pub struct Values {
    pub shape: Vec<usize>,
    pub numbers: Vec<f32>,
}

impl TinyModel {
    /// A model of that `model_type`, its configuration changed by these keys.
    pub fn new(family: &str, changes: &Value) -> Self {
        let mut config = json!({
            "model_type": family, "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
            "vocab_size": VOCABULARY, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
            "rope_theta": 10_000.0, "hidden_act": "silu", "tie_word_embeddings": false,
        });
        let of_family = match family {
            "mistral" => json!({"sliding_window": null}),
            "qwen2" => json!({
                "use_sliding_window": false, "sliding_window": 8, "max_window_layers": 2
            }),
            "qwen3" => json!({
                "use_sliding_window": false, "sliding_window": null, "max_window_layers": 2,
                "head_dim": 32, "attention_bias": false
            }),
            _ => json!({"attention_bias": false, "mlp_bias": false}),
        };
        for keys in [&of_family, changes] {
            let keys = keys.as_object().unwrap().clone();
            config.as_object_mut().unwrap().extend(keys);
        }
        let mut model = Self {
            config,
            tensors: BTreeMap::new(),
        };
        model.fill(family);
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

    pub fn head_dim(&self) -> usize {
        let given = self.config["head_dim"].as_u64();
        given.map_or(self.size("hidden_size") / self.heads(), |w| w as usize)
    }

    pub fn heads(&self) -> usize {
        self.size("num_attention_heads")
    }

    pub fn kv_heads(&self) -> usize {
        self.size("num_key_value_heads")
    }

    fn fill(&mut self, family: &str) {
        let (hidden, inner) = (self.size("hidden_size"), self.size("intermediate_size"));
        let queries = self.heads() * self.head_dim();
        let keys = self.kv_heads() * self.head_dim();
        let attention_bias = self.is("attention_bias");
        let qkv_bias = attention_bias || family == "qwen2";
        let mlp_bias = self.is("mlp_bias");
        let layers = self.size("num_hidden_layers");
        let tied = self.is("tie_word_embeddings");
        let width = self.head_dim();

        let mut numbers = Numbers(0x5eed);
        let mut add = |name: String, shape: &[usize], about: f32, spread: f32| {
            let count = shape.iter().product();
            let numbers = (0..count)
                .map(|_| about + spread * numbers.next())
                .collect();
            let shape = shape.to_vec();
            self.tensors.insert(name, Values { shape, numbers });
        };
        add(
            "model.embed_tokens.weight".into(),
            &[VOCABULARY, hidden],
            0.0,
            2.0,
        );
        for layer in 0..layers {
            for (part, rows, columns, has_bias) in [
                ("self_attn.q_proj", queries, hidden, qkv_bias),
                ("self_attn.k_proj", keys, hidden, qkv_bias),
                ("self_attn.v_proj", keys, hidden, qkv_bias),
                ("self_attn.o_proj", hidden, queries, attention_bias),
                ("mlp.gate_proj", inner, hidden, mlp_bias),
                ("mlp.up_proj", inner, hidden, mlp_bias),
                ("mlp.down_proj", hidden, inner, mlp_bias),
            ] {
                let name = format!("model.layers.{layer}.{part}");
                add(format!("{name}.weight"), &[rows, columns], 0.0, 0.5);
                if has_bias {
                    add(format!("{name}.bias"), &[rows], 0.0, 0.5);
                }
            }
            let mut norm = |part: &str, width: usize| {
                let name = format!("model.layers.{layer}.{part}.weight");
                add(name, &[width], 1.0, 0.5);
            };
            norm("input_layernorm", hidden);
            norm("post_attention_layernorm", hidden);
            if family == "qwen3" {
                norm("self_attn.q_norm", width);
                norm("self_attn.k_norm", width);
            }
        }
        add("model.norm.weight".into(), &[hidden], 1.0, 0.5);
        if !tied {
            add("lm_head.weight".into(), &[VOCABULARY, hidden], 0.0, 0.5);
        }
    }

    /// Writes `config.json`, `tokenizer.json` and `model.safetensors`.
    pub fn write_folder(&self, folder: &Path) {
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
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

/// One token for each printable character, the space and the line feed.
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

/// Numbers that look random and are the same everywhere (SplitMix64).
pub struct Numbers(pub u64);

impl Numbers {
    /// From -0.5 up to 0.5.
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32 - 0.5
    }
}
