//! Writes tiny models as GGUF files.

use std::path::Path;

use serde_json::Value;

use crate::tiny_model::{TinyModel, Values, tokens};

/// Tensor names of a layer in safetensors and in GGUF.
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
    ("self_attn.qkv_proj", "attn_qkv"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.gate", "ffn_gate_inp"),
    ("block_sparse_moe.gate", "ffn_gate_inp"),
];

/// Tensor names that differ in families with post-norms.
const POST_NORMS: &[(&str, &str)] = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

/// Names of expert matrices in safetensors and in GGUF.
const EXPERT_PARTS: &[(&str, &str)] = &[
    ("w1", "ffn_gate"),
    ("w3", "ffn_up"),
    ("w2", "ffn_down"),
    ("gate_proj", "ffn_gate"),
    ("up_proj", "ffn_up"),
    ("down_proj", "ffn_down"),
];

/// How a file stores experts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ExpertLayout {
    Stacked,
    /// As in old files.
    Separate,
}

/// Returns `general.architecture`.
fn gguf_family(model: &TinyModel) -> &str {
    match model.family() {
        "mistral" | "mixtral" => "llama",
        "qwen3_moe" => "qwen3moe",
        "gemma3_text" => "gemma3",
        other => other,
    }
}

/// A GGUF file under construction.
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

    pub fn replace_number(&mut self, key: &str, number: usize) {
        self.remove_value(key);
        self.number(key, number);
    }

    pub fn remove_value(&mut self, key: &str) {
        let key = string(key);
        self.values.retain(|value| !value.starts_with(&key));
    }

    /// Returns the keys of all integers.
    pub fn number_keys(&self) -> Vec<String> {
        let key = |value: &Vec<u8>| {
            let length = u64::from_le_bytes(value[..8].try_into().unwrap()) as usize;
            let (key, rest) = value[8..].split_at(length);
            let is_number = rest[..4] == 4_u32.to_le_bytes();
            is_number.then(|| String::from_utf8(key.to_vec()).unwrap())
        };
        self.values.iter().filter_map(key).collect()
    }

    pub fn remove_tensor(&mut self, name: &str) {
        let name = string(name);
        self.infos.retain(|info| !info.starts_with(&name));
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

    pub fn flags(&mut self, key: &str, flags: &[bool]) {
        let count = (flags.len() as u64).to_le_bytes();
        let flags: Vec<u8> = flags.iter().copied().map(u8::from).collect();
        self.value(
            key,
            9,
            &[&7_u32.to_le_bytes(), count.as_slice(), &flags].concat(),
        );
    }

    pub fn tensor(&mut self, name: &str, values: &Values) {
        let bytes: Vec<u8> = values
            .numbers
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        self.raw_tensor(name, &values.shape, 0, &bytes);
    }

    /// Adds a tensor in Q8_0: blocks of 32 weights with an F16 scale, then signed bytes.
    fn tensor_q8_0(&mut self, name: &str, values: &Values) {
        let block = |block: &[f32]| {
            let largest = block.iter().fold(0.0_f32, |l, v| l.max(v.abs()));
            let scale = half::f16::from_f32(largest / 127.0);
            let quantized = |v: &f32| (v / scale.to_f32()).round() as i8;
            let numbers = block.iter().map(|v| quantized(v).to_le_bytes()[0]);
            scale
                .to_le_bytes()
                .into_iter()
                .chain(numbers)
                .collect::<Vec<_>>()
        };
        let bytes: Vec<u8> = values.numbers.chunks_exact(32).flat_map(block).collect();
        self.raw_tensor(name, &values.shape, 8, &bytes);
    }

    fn raw_tensor(&mut self, name: &str, shape: &[usize], kind: u32, bytes: &[u8]) {
        let mut info = string(name);
        info.extend((shape.len() as u32).to_le_bytes());
        for size in shape.iter().rev() {
            info.extend((*size as u64).to_le_bytes());
        }
        info.extend(kind.to_le_bytes());
        info.extend((self.data.len() as u64).to_le_bytes());
        self.infos.push(info);
        self.data.extend(bytes);
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

    /// Converts a model, without RoPE scaling and sliding window.
    pub fn of(model: &TinyModel) -> Self {
        Self::with_experts(model, ExpertLayout::Stacked, false)
    }

    /// Converts a model with the given layout of experts, which are in Q8_0 if `quantized`.
    pub fn with_experts(model: &TinyModel, layout: ExpertLayout, quantized: bool) -> Self {
        let mut file = Self::default();
        let name = gguf_family(model);
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
        let width = model.head_dim();
        let rotated = model.config["partial_rotary_factor"].as_f64();
        let rotated = rotated.map_or(width, |part| (width as f64 * part) as usize);
        for (key, width) in [
            ("attention.key_length", width),
            ("attention.value_length", width),
            ("rope.dimension_count", rotated),
        ] {
            file.number(&format!("{name}.{key}"), width);
        }
        for (key, float) in [
            ("attn_logit_softcapping", "attn_logit_softcapping"),
            ("final_logit_softcapping", "final_logit_softcapping"),
        ] {
            if let Some(float) = model.config[float].as_f64() {
                file.float(&format!("{name}.{key}"), float);
            }
        }
        if let Some((count, used, inner)) = model.experts(0) {
            for (key, number) in [
                ("expert_count", count),
                ("expert_used_count", used),
                ("expert_feed_forward_length", inner),
            ] {
                file.number(&format!("{name}.{key}"), number);
            }
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
            if tensor.contains(".experts.") {
                continue;
            }
            let gguf_name = gguf_name(tensor, model);
            let rotated = match gguf_name.split('.').nth(2) {
                Some("attn_q") => Some(model.heads()),
                Some("attn_k") => Some(model.kv_heads()),
                _ => None,
            };
            match rotated {
                Some(heads) if name == "llama" => {
                    file.tensor(&gguf_name, &interleaved(values, heads));
                }
                _ if model.is_gemma() && tensor.contains("norm") => {
                    file.tensor(&gguf_name, &plus_one(values));
                }
                _ => file.tensor(&gguf_name, values),
            }
        }
        for (name, values) in experts(model, layout) {
            if quantized {
                file.tensor_q8_0(&name, &values);
            } else {
                file.tensor(&name, &values);
            }
        }
        file
    }

    /// Adds the keys of the configuration's `rope_scaling` and the sliding window of all layers.
    pub fn with_scaling_and_window(mut self, model: &TinyModel, window: Option<usize>) -> Self {
        let name = gguf_family(model);
        if let Some(window) = window {
            self.number(&format!("{name}.attention.sliding_window"), window);
        }
        let Value::Object(scaling) = &model.config["rope_scaling"] else {
            return self;
        };
        let kind = scaling["rope_type"].as_str().unwrap();
        let key = |part: &str| format!("{name}.rope.scaling.{part}");
        if kind == "longrope" {
            let trained = model.size("original_max_position_embeddings");
            let factor = model.size("max_position_embeddings") as f64 / trained as f64;
            let scale = (1.0 + factor.ln() / (trained as f64).ln()).sqrt();
            self.float(&key("attn_factor"), scale);
            self.number(&key("original_context_length"), trained);
            for length in ["short", "long"] {
                let factors = scaling[&format!("{length}_factor")].as_array().unwrap();
                let numbers = factors.iter().map(|f| f.as_f64().unwrap() as f32);
                let values = Values {
                    shape: vec![factors.len()],
                    numbers: numbers.collect(),
                };
                self.tensor(&format!("rope_factors_{length}.weight"), &values);
            }
            return self;
        }
        self.text(&key("type"), kind);
        self.float(&key("factor"), scaling["factor"].as_f64().unwrap());
        if kind == "yarn" {
            let trained = scaling["original_max_position_embeddings"].as_u64();
            self.number(&key("original_context_length"), trained.unwrap() as usize);
        }
        self
    }
}

/// Returns the experts of all layers.
fn experts(model: &TinyModel, layout: ExpertLayout) -> Vec<(String, Values)> {
    let mut out: Vec<(String, Values)> = Vec::new();
    for layer in 0..model.size("num_hidden_layers") {
        for index in 0..model.experts(layer).map_or(0, |(count, ..)| count) {
            for (part, gguf_part) in EXPERT_PARTS {
                let end = format!(".experts.{index}.{part}.weight");
                let start = format!("model.layers.{layer}.");
                let found = model.tensors.iter();
                let mut found = found.filter(|(n, _)| n.starts_with(&start) && n.ends_with(&end));
                let Some((_, values)) = found.next() else {
                    continue;
                };
                if layout == ExpertLayout::Separate {
                    let name = format!("blk.{layer}.{gguf_part}.{index}.weight");
                    out.push((name, values.clone()));
                    continue;
                }
                let name = format!("blk.{layer}.{gguf_part}_exps.weight");
                let shape = [vec![0], values.shape.clone()].concat();
                if out.iter().all(|(n, _)| *n != name) {
                    let numbers = Vec::new();
                    out.push((name.clone(), Values { shape, numbers }));
                }
                let (_, stacked) = out.iter_mut().find(|(n, _)| *n == name).unwrap();
                stacked.shape[0] += 1;
                stacked.numbers.extend(&values.numbers);
            }
        }
    }
    out
}

fn plus_one(values: &Values) -> Values {
    Values {
        shape: values.shape.clone(),
        numbers: values.numbers.iter().map(|n| n + 1.0).collect(),
    }
}

fn gguf_name(tensor: &str, model: &TinyModel) -> String {
    match tensor {
        "model.embed_tokens.weight" => "token_embd.weight".into(),
        "model.norm.weight" => "output_norm.weight".into(),
        "lm_head.weight" => "output.weight".into(),
        _ => {
            let rest = tensor.strip_prefix("model.layers.").unwrap();
            let (layer, rest) = rest.split_once('.').unwrap();
            let (part, kind) = rest.rsplit_once('.').unwrap();
            let parts = match model.family() {
                "gemma2" | "gemma3_text" => [POST_NORMS, LAYER_PARTS],
                _ => [LAYER_PARTS, &[]],
            };
            let (_, name) = parts
                .concat()
                .into_iter()
                .find(|(p, _)| *p == part)
                .unwrap();
            format!("blk.{layer}.{name}.{kind}")
        }
    }
}

/// Interleaves the rows of each head, as in GGUF files of Llama.
fn interleaved(values: &Values, heads: usize) -> Values {
    let rows = values.shape[0];
    let (row, head) = (values.numbers.len() / rows, rows / heads);
    let mut numbers = Vec::new();
    for index in 0..rows {
        let (start, offset) = (index / head * head, index % head);
        let from = start + offset / 2 + offset % 2 * (head / 2);
        numbers.extend_from_slice(&values.numbers[from * row..(from + 1) * row]);
    }
    Values {
        shape: values.shape.clone(),
        numbers,
    }
}
