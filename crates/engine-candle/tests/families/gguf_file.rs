//! The same models as GGUF files.

use std::path::Path;

use serde_json::Value;

use crate::tiny_model::{TinyModel, Values, tokens};

/// Parts of a layer: in safetensors, in GGUF.
const LAYER_PARTS: &[(&str, &str)] = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// A GGUF file, piece by piece.
#[derive(Default)]
pub struct GgufFile {
    values: Vec<Vec<u8>>,
    infos: Vec<Vec<u8>>,
    data: Vec<u8>,
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl GgufFile {
    fn value(&mut self, key: &str, kind: u32, payload: &[u8]) {
        let kind = kind.to_le_bytes();
        self.values
            .push([string(key).as_slice(), &kind, payload].concat());
    }

    pub fn number(&mut self, key: &str, number: usize) {
        self.value(key, 4, &(number as u32).to_le_bytes());
    }

    pub fn float(&mut self, key: &str, float: f64) {
        self.value(key, 6, &(float as f32).to_le_bytes());
    }

    pub fn text(&mut self, key: &str, text: &str) {
        self.value(key, 8, &string(text));
    }

    fn texts(&mut self, key: &str, texts: &[String]) {
        let count = (texts.len() as u64).to_le_bytes();
        let texts: Vec<u8> = texts.iter().flat_map(|t| string(t)).collect();
        self.value(
            key,
            9,
            &[&8_u32.to_le_bytes(), count.as_slice(), &texts].concat(),
        );
    }

    fn tensor(&mut self, name: &str, values: &Values) {
        let mut info = string(name);
        info.extend((values.shape.len() as u32).to_le_bytes());
        for size in values.shape.iter().rev() {
            info.extend((*size as u64).to_le_bytes());
        }
        info.extend(0_u32.to_le_bytes());
        info.extend((self.data.len() as u64).to_le_bytes());
        self.infos.push(info);
        self.data
            .extend(values.numbers.iter().flat_map(|n| n.to_le_bytes()));
        self.data.resize(self.data.len().next_multiple_of(32), 0);
    }

    pub fn write(&self, path: &Path) {
        let mut file = b"GGUF".to_vec();
        file.extend(3_u32.to_le_bytes());
        file.extend((self.infos.len() as u64).to_le_bytes());
        file.extend((self.values.len() as u64).to_le_bytes());
        file.extend(self.values.concat());
        file.extend(self.infos.concat());
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(&self.data);
        std::fs::write(path, file).unwrap();
    }

    /// What a converter makes of the model. Scaling and window are the caller's to add.
    pub fn of(model: &TinyModel) -> Self {
        let mut file = Self::default();
        let name = match model.family() {
            "mistral" => "llama",
            other => other,
        };
        file.text("general.architecture", name);
        for (key, size) in [
            ("block_count", "num_hidden_layers"),
            ("embedding_length", "hidden_size"),
            ("feed_forward_length", "intermediate_size"),
            ("attention.head_count", "num_attention_heads"),
            ("attention.head_count_kv", "num_key_value_heads"),
            ("context_length", "max_position_embeddings"),
        ] {
            file.number(&format!("{name}.{key}"), model.size(size));
        }
        for key in [
            "attention.key_length",
            "attention.value_length",
            "rope.dimension_count",
        ] {
            file.number(&format!("{name}.{key}"), model.head_dim());
        }
        for (key, float) in [
            ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
            ("rope.freq_base", "rope_theta"),
        ] {
            file.float(
                &format!("{name}.{key}"),
                model.config[float].as_f64().unwrap(),
            );
        }
        file.text("tokenizer.ggml.model", "gpt2");
        file.text("tokenizer.ggml.pre", "gpt-2");
        file.texts("tokenizer.ggml.tokens", &tokens());
        file.texts("tokenizer.ggml.merges", &[]);
        for (tensor, values) in &model.tensors {
            let gguf_name = gguf_name(tensor);
            let rotated = match gguf_name.split('.').nth(2) {
                Some("attn_q") => Some(model.heads()),
                Some("attn_k") => Some(model.kv_heads()),
                _ => None,
            };
            match rotated {
                Some(heads) if name == "llama" => {
                    file.tensor(&gguf_name, &in_pairs(values, heads));
                }
                _ => file.tensor(&gguf_name, values),
            }
        }
        file
    }

    /// The keys of the configuration's `rope_scaling`, and the window of all layers.
    pub fn with_scaling_and_window(mut self, model: &TinyModel, window: Option<usize>) -> Self {
        let name = match model.family() {
            "mistral" => "llama",
            other => other,
        };
        if let Some(window) = window {
            self.number(&format!("{name}.attention.sliding_window"), window);
        }
        let Value::Object(scaling) = &model.config["rope_scaling"] else {
            return self;
        };
        let kind = scaling["rope_type"].as_str().unwrap();
        let key = |part: &str| format!("{name}.rope.scaling.{part}");
        self.text(&key("type"), kind);
        self.float(&key("factor"), scaling["factor"].as_f64().unwrap());
        if kind == "yarn" {
            let trained = scaling["original_max_position_embeddings"].as_u64();
            self.number(&key("original_context_length"), trained.unwrap() as usize);
        }
        self
    }
}

fn gguf_name(tensor: &str) -> String {
    match tensor {
        "model.embed_tokens.weight" => "token_embd.weight".into(),
        "model.norm.weight" => "output_norm.weight".into(),
        "lm_head.weight" => "output.weight".into(),
        _ => {
            let rest = tensor.strip_prefix("model.layers.").unwrap();
            let (layer, rest) = rest.split_once('.').unwrap();
            let (part, kind) = rest.rsplit_once('.').unwrap();
            let (_, name) = LAYER_PARTS.iter().find(|(p, _)| *p == part).unwrap();
            format!("blk.{layer}.{name}.{kind}")
        }
    }
}

/// The rows of each head in pairs that turn together, as files of Llama have them.
fn in_pairs(values: &Values, heads: usize) -> Values {
    let rows = values.shape[0];
    let (row, head) = (values.numbers.len() / rows, rows / heads);
    let mut numbers = Vec::new();
    for index in 0..rows {
        let (start, place) = (index / head * head, index % head);
        let from = start + place / 2 + place % 2 * (head / 2);
        numbers.extend_from_slice(&values.numbers[from * row..(from + 1) * row]);
    }
    Values {
        shape: values.shape.clone(),
        numbers,
    }
}
