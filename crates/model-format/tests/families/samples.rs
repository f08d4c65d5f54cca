//! Headers of small models.

use std::collections::BTreeMap;

use diagnostics::Diagnostic;
use model_format::{Gguf, ModelHeader, header_from_config};
use serde_json::{Value, json};

/// Builder of a GGUF file without tensors, with the metadata required of every model.
pub struct File {
    family: &'static str,
    values: BTreeMap<String, Vec<u8>>,
}

pub fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl File {
    pub fn of(family: &'static str) -> Self {
        let file = Self {
            family,
            values: BTreeMap::new(),
        };
        let name = [8_u32.to_le_bytes().as_slice(), &string(family)].concat();
        [
            ("block_count", 4),
            ("attention.head_count", 8),
            ("attention.head_count_kv", 2),
            ("attention.key_length", 16),
            ("embedding_length", 96),
            ("feed_forward_length", 64),
            ("vocab_size", 100),
            ("context_length", 1000),
        ]
        .into_iter()
        .fold(file, |file, (key, number)| file.number(key, number))
        .put("general.architecture", name)
    }

    fn put(mut self, key: &str, value: Vec<u8>) -> Self {
        self.values.insert(key.to_owned(), value);
        self
    }

    /// Sets a key of the family's own namespace.
    pub fn own(self, key: &str, kind: u32, payload: &[u8]) -> Self {
        let key = format!("{}.{key}", self.family);
        self.put(&key, [&kind.to_le_bytes(), payload].concat())
    }

    pub fn number(self, key: &str, number: u32) -> Self {
        self.own(key, 4, &number.to_le_bytes())
    }

    pub fn float(self, key: &str, float: f32) -> Self {
        self.own(key, 6, &float.to_le_bytes())
    }

    pub fn flags(self, key: &str, flags: &[u8]) -> Self {
        let count = (flags.len() as u64).to_le_bytes();
        let payload = [7_u32.to_le_bytes().as_slice(), &count, flags].concat();
        self.own(key, 9, &payload)
    }

    pub fn header(&self) -> Result<ModelHeader, Diagnostic> {
        let mut bytes = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend((self.values.len() as u64).to_le_bytes());
        for (key, value) in &self.values {
            bytes.extend(string(key));
            bytes.extend(value);
        }
        ModelHeader::from_gguf(&Gguf::parse(&bytes)?)
    }
}

/// A `config.json` with the required keys and `more`.
pub fn config(family: &str, more: &Value) -> Value {
    let mut config = json!({
        "model_type": family, "num_hidden_layers": 4, "num_attention_heads": 8,
        "hidden_size": 96, "intermediate_size": 64, "vocab_size": 100,
        "max_position_embeddings": 1000,
    });
    let more = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    config
}

pub fn parsed(config: &Value) -> Result<ModelHeader, Diagnostic> {
    header_from_config(config.to_string().as_bytes(), &BTreeMap::new())
}
