use serde_json::{Map, Value as Json};

use crate::{gguf::Gguf, value::Value};

/// Sampling parameters that a model recommends, as its files state them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecommendedSampling {
    /// Name and value; the names are those of common interfaces: `temperature`, `top_p`, `top_k`,
    /// `min_p`, `typical_p`, `repetition_penalty`, `penalty_window`. A `penalty_window` of -1
    /// means all tokens.
    pub values: Vec<(&'static str, f64)>,
    /// Sentences about recommendations that are not usable.
    pub ignored: Vec<String>,
}

/// Metadata of GGUF files, which llama.cpp defined.
const GGUF_KEYS: [(&str, &str); 6] = [
    ("general.sampling.temp", "temperature"),
    ("general.sampling.top_p", "top_p"),
    ("general.sampling.top_k", "top_k"),
    ("general.sampling.min_p", "min_p"),
    ("general.sampling.penalty_repeat", "repetition_penalty"),
    ("general.sampling.penalty_last_n", "penalty_window"),
];
/// Metadata of GGUF files for samplers that are not available; 0 turns them off.
const UNAVAILABLE: [&str; 2] = [
    "general.sampling.mirostat",
    "general.sampling.xtc_probability",
];
/// Fields of `generation_config.json`, which Transformers defined.
const CONFIG_FIELDS: [&str; 6] = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
];

impl RecommendedSampling {
    /// Reads the metadata `general.sampling.*` of a GGUF file.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Self {
        let mut found = Self::default();
        for (key, name) in GGUF_KEYS {
            match gguf.metadata().get(key) {
                None => {}
                Some(Value::Float(value)) => found.values.push((name, *value)),
                Some(Value::Integer(value)) => found.values.push((name, *value as f64)),
                Some(other) => found.ignore(format!("{key} is not a number but {}", other.kind())),
            }
        }
        for key in UNAVAILABLE {
            let is_off = match gguf.metadata().get(key) {
                Some(Value::Float(value)) => *value == 0.0,
                Some(Value::Integer(value)) => *value == 0,
                _ => true,
            };
            if !is_off {
                found.ignore(format!("the sampler of {key} is not available"));
            }
        }
        found
    }

    /// Reads the content of `generation_config.json`. `do_sample: false` is a temperature of 0.
    pub fn from_config(json: &[u8]) -> Self {
        match serde_json::from_slice(json) {
            Ok(config) => Self::from_fields(&config),
            Err(error) => Self {
                values: Vec::new(),
                ignored: vec![format!("generation_config.json: {error}")],
            },
        }
    }

    fn from_fields(config: &Map<String, Json>) -> Self {
        let mut found = Self::default();
        for name in CONFIG_FIELDS {
            match config.get(name) {
                None | Some(Json::Null) => {}
                Some(Json::Number(value)) => {
                    found.values.extend(value.as_f64().map(|v| (name, v)));
                }
                Some(_) => found.ignore(format!("generation_config.json: {name} is not a number")),
            }
        }
        match config.get("do_sample") {
            None | Some(Json::Null | Json::Bool(true)) => {}
            Some(Json::Bool(false)) => {
                found.values.retain(|(name, _)| *name != "temperature");
                found.values.push(("temperature", 0.0));
            }
            Some(_) => found.ignore("generation_config.json: do_sample is not a boolean".into()),
        }
        found
    }

    fn ignore(&mut self, sentence: String) {
        self.ignored.push(sentence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(config: &str) -> RecommendedSampling {
        RecommendedSampling::from_config(config.as_bytes())
    }

    #[test]
    fn generation_config_is_read() {
        let found = from(r#"{"do_sample": true, "temperature": 0.7, "top_k": 20, "top_p": null}"#);
        assert_eq!(found.values, [("temperature", 0.7), ("top_k", 20.0)]);
        assert!(found.ignored.is_empty());
        let greedy = from(r#"{"do_sample": false, "temperature": 0.7, "repetition_penalty": 1.1}"#);
        assert_eq!(
            greedy.values,
            [("repetition_penalty", 1.1), ("temperature", 0.0)]
        );
    }

    #[test]
    fn unusable_recommendations_are_named() {
        let found = from(r#"{"do_sample": "yes", "temperature": "hot", "top_k": 20}"#);
        assert_eq!(found.values, [("top_k", 20.0)]);
        assert_eq!(
            found.ignored,
            [
                "generation_config.json: temperature is not a number",
                "generation_config.json: do_sample is not a boolean"
            ]
        );
        for damaged in ["", "[]", "{\"temperature\": 0.7"] {
            let found = from(damaged);
            assert!(found.values.is_empty());
            assert!(
                found.ignored[0].contains("generation_config.json"),
                "{found:?}"
            );
        }
    }
}
