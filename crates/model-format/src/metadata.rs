use serde_json::{Map, Value as Json, json};

use crate::{gguf::Gguf, header::ModelHeader, value::Value};

/// Longest text among the metadata, in bytes.
const MAX_TEXT_BYTES: usize = 4096;
/// Longest chat template and license, in bytes.
const MAX_DOCUMENT_BYTES: usize = 256 << 10;

/// What a model's files say about the model, for users; untrusted text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelMetadata {
    /// Values by the keys of GGUF metadata, such as `llama.context_length`. Arrays are null.
    pub values: Map<String, Json>,
    /// Chat template.
    pub template: Option<String>,
    /// Name or text of the license.
    pub license: Option<String>,
}

impl ModelMetadata {
    /// The metadata that follows from the header of any model.
    pub(crate) fn from_header(header: &ModelHeader) -> Self {
        let mut values = Map::new();
        values.insert("general.architecture".into(), json!(header.architecture));
        values.insert("general.parameter_count".into(), json!(header.parameters));
        for (name, number) in [
            ("block_count", header.layers),
            ("context_length", header.context_length),
            ("embedding_length", header.embedding_length),
            ("feed_forward_length", header.feed_forward_length),
            ("attention.head_count", header.heads),
            ("attention.head_count_kv", header.kv_heads),
            ("attention.key_length", header.head_dim),
            ("vocab_size", header.vocab_size),
        ] {
            values.insert(format!("{}.{name}", header.architecture), json!(number));
        }
        let theta = format!("{}.rope.freq_base", header.architecture);
        values.insert(theta, short(f64::from(header.rope_theta)));
        Self {
            values,
            template: None,
            license: None,
        }
    }

    /// The metadata of a GGUF file.
    pub(crate) fn from_gguf(gguf: &Gguf<'_>, header: &ModelHeader) -> Self {
        const TEMPLATE: &str = "tokenizer.chat_template";
        let mut found = Self::from_header(header);
        for (key, value) in gguf.metadata() {
            let value = match value {
                Value::Integer(i) => i64::try_from(*i).map_or(Json::Null, Json::from),
                Value::Float(f) => short(*f),
                Value::Bool(b) => json!(b),
                Value::String(text) if *key != TEMPLATE && text.len() <= MAX_TEXT_BYTES => {
                    json!(String::from_utf8_lossy(text))
                }
                Value::String(_) => continue,
                Value::Array(_) => Json::Null,
            };
            found.values.insert((*key).to_owned(), value);
        }
        let document = |key: &str| match gguf.metadata().get(key) {
            Some(Value::String(text)) => document(text),
            _ => None,
        };
        found.template = document(TEMPLATE);
        found.license = document("general.license");
        found
    }
}

/// Returns a text for users, unless it is empty or too long.
pub(crate) fn document(bytes: &[u8]) -> Option<String> {
    let fits = (1..=MAX_DOCUMENT_BYTES).contains(&bytes.len());
    fits.then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// Most floats have 32 bits: writes the shortest decimal number that denotes one.
fn short(float: f64) -> Json {
    let short = (float as f32).to_string().parse();
    json!(short.unwrap_or(float))
}
