use std::path::Path;

use diagnostics::{Code, Diagnostic};
use model_format::{about_file, read_limited};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::{
    codec::{Boundaries, Codec, CodecSettings, Encoder},
    errors::{self, invalid_tokenizer},
    token_table::{TokenEncoding, TokenTable},
};

/// Decoders that do not determine the token encoding.
const NEUTRAL_DECODERS: &[&str] = &["Fuse", "Strip", "Replace", "Sequence"];

/// Fields used from `tokenizer_config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    chat_template: Option<TemplateField>,
    bos_token: Option<TokenField>,
    eos_token: Option<TokenField>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
}

/// Fields used from `generation_config.json` and `config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct EosConfig {
    eos_token_id: Option<Ids>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TemplateField {
    One(String),
    Several(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TokenField {
    Text(String),
    Token { content: String },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Several(Vec<u32>),
}

impl TokenField {
    fn text(self) -> String {
        match self {
            Self::Text(text) | Self::Token { content: text } => text,
        }
    }
}

impl TemplateField {
    fn named(&self, name: &str) -> Option<String> {
        match self {
            Self::One(source) => (name == "default").then(|| source.clone()),
            Self::Several(templates) => templates
                .iter()
                .find(|t| t.name == name)
                .map(|t| t.template.clone()),
        }
    }
}

impl Codec {
    /// Builds the codec of a Hugging Face model directory from `tokenizer.json` and, where
    /// they exist, `tokenizer_config.json`, `chat_template.jinja`, `generation_config.json`
    /// and `config.json`.
    pub fn from_dir(directory: &Path) -> Result<Self, Diagnostic> {
        let path = directory.join("tokenizer.json");
        let json = read_limited(&path)?;
        let config: TokenizerConfig = optional_json(&directory.join("tokenizer_config.json"))?;
        let template_path = directory.join("chat_template.jinja");
        let templates = if template_path.exists() {
            let source = String::from_utf8(read_limited(&template_path)?)
                .map_err(|_| about_file(errors::not_utf8(), &template_path))?;
            Some(TemplateField::One(source))
        } else {
            config.chat_template
        };
        let template = |name| templates.as_ref().and_then(|t| t.named(name));
        let generation: EosConfig = optional_json(&directory.join("generation_config.json"))?;
        let eos_ids = match generation.eos_token_id {
            Some(ids) => Some(ids),
            None => optional_json::<EosConfig>(&directory.join("config.json"))?.eos_token_id,
        };
        let settings = CodecSettings {
            chat_template: template("default"),
            tool_template: template("tool_use"),
            bos_token: config.bos_token.map(TokenField::text),
            eos_token: config.eos_token.map(TokenField::text),
            end_tokens: match eos_ids {
                None => Vec::new(),
                Some(Ids::One(id)) => vec![id],
                Some(Ids::Several(ids)) => ids,
            },
            add_bos: config.add_bos_token,
            add_eos: config.add_eos_token == Some(true),
        };
        Self::from_tokenizer_json(&json, settings).map_err(|e| about_file(e, &path))
    }

    /// Builds the codec from the content of a `tokenizer.json`.
    ///
    /// Errors: `INVALID_MODEL_FILE`, and `UNSUPPORTED_MODEL` if the token encoding is unknown.
    pub fn from_tokenizer_json(json: &[u8], settings: CodecSettings) -> Result<Self, Diagnostic> {
        let (encoding, leading_space) = inspect_document(json)?;
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(invalid_tokenizer)?;
        // A prompt that is too long must fail during admission, not be truncated here.
        tokenizer.with_truncation(None).map_err(invalid_tokenizer)?;
        tokenizer.with_padding(None);
        let table = TokenTable::from_tokenizer(&tokenizer, encoding)?;
        check_post_processor(&tokenizer, table.len())?;
        let special = |name: &Option<String>| table.special_id(name.as_deref()?);
        let bos = special(&settings.bos_token);
        let boundaries = Boundaries {
            prepended: bos.filter(|_| settings.add_bos == Some(true)),
            removed: bos.filter(|_| settings.add_bos == Some(false)),
            appended: special(&settings.eos_token).filter(|_| settings.add_eos),
            post_processor_suffix: post_processor_suffix(&tokenizer)?,
            leading_space,
        };
        let encoder = Encoder::Tokenizer(Box::new(tokenizer));
        Ok(Self::new(encoder, table, boundaries, settings))
    }
}

/// Determines the tokens that the post-processor appends to a text.
fn post_processor_suffix(tokenizer: &Tokenizer) -> Result<Vec<u32>, Diagnostic> {
    let encode = |post_process| -> Result<Vec<u32>, Diagnostic> {
        let encoding = tokenizer
            .encode_fast("a", post_process)
            .map_err(invalid_tokenizer)?;
        Ok(encoding.get_ids().to_vec())
    };
    let (text, processed) = (encode(false)?, encode(true)?);
    let mut windows = processed.windows(text.len().max(1));
    let start = windows.position(|window| window == text);
    Ok(start.map_or_else(Vec::new, |start| processed[start + text.len()..].to_vec()))
}

/// Validates a `tokenizer.json`; returns its token encoding and whether it prepends a space.
/// The parsed document takes many times the memory of `json`, so it is dropped on return,
/// before the tokenizer is built.
fn inspect_document(json: &[u8]) -> Result<(TokenEncoding, bool), Diagnostic> {
    let document: Value = serde_json::from_slice(json).map_err(|e| errors::json_error(&e))?;
    check_merges(&document)?;
    Ok((
        token_encoding(&document["decoder"])?,
        prepends_space(&document),
    ))
}

/// Rejects merges longer than any token, on which the `tokenizers` crate panics.
fn check_merges(document: &Value) -> Result<(), Diagnostic> {
    let model = &document["model"];
    let (Some(vocab), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array())
    else {
        return Ok(());
    };
    let longest = vocab.keys().map(String::len).max().unwrap_or(0);
    for merge in merges {
        let length = match merge {
            Value::String(pair) => pair.len().saturating_sub(1),
            Value::Array(pair) => pair.iter().filter_map(Value::as_str).map(str::len).sum(),
            _ => 0,
        };
        if length > longest {
            return Err(errors::merge_too_long(length, longest));
        }
    }
    Ok(())
}

/// Rejects a post-processor that adds ids beyond the vocabulary, and templates with undefined
/// references, on which the `tokenizers` crate panics.
fn check_post_processor(tokenizer: &Tokenizer, vocab_size: usize) -> Result<(), Diagnostic> {
    let Some(processor) = tokenizer.get_post_processor() else {
        return Ok(());
    };
    // Checks the crate's own serialization: the document may use other forms of the same.
    check_template(&serde_json::to_value(processor).map_err(Diagnostic::internal)?)?;
    let encoding = tokenizer.encode_fast("", true).map_err(invalid_tokenizer)?;
    let mut ids = encoding.get_ids().iter();
    match ids.find(|&&id| id as usize >= vocab_size) {
        Some(&id) => Err(errors::post_processor_token_out_of_range(id, vocab_size)),
        None => Ok(()),
    }
}

fn check_template(processor: &Value) -> Result<(), Diagnostic> {
    for inner in processor["processors"].as_array().into_iter().flatten() {
        check_template(inner)?;
    }
    let tokens = &processor["special_tokens"];
    for piece in processor["single"].as_array().into_iter().flatten() {
        if piece["Sequence"]["id"] == "B" {
            return Err(errors::post_processor_needs_pair());
        }
        let named = piece["SpecialToken"]["id"].as_str();
        if let Some(name) = named.filter(|name| tokens.get(name).is_none()) {
            return Err(errors::post_processor_token_undefined(name));
        }
    }
    for token in tokens.as_object().into_iter().flat_map(|t| t.values()) {
        let length = |name: &str| token[name].as_array().map(Vec::len);
        if length("ids") != length("tokens") {
            return Err(errors::post_processor_ids_mismatch());
        }
    }
    Ok(())
}

fn token_encoding(decoder: &Value) -> Result<TokenEncoding, Diagnostic> {
    const SUPPORTED: &[&str] = &["ByteLevel", "ByteFallback", "Metaspace"];
    let unsupported = |found| errors::unsupported("tokenizer decoder", found, SUPPORTED);
    let mut kinds = Vec::new();
    collect_kinds(decoder, "decoders", &mut kinds);
    let mut encoding = None;
    for kind in kinds {
        encoding = match kind {
            "ByteLevel" => Some(TokenEncoding::ByteLevel),
            "ByteFallback" | "Metaspace" => Some(TokenEncoding::SentencePiece),
            neutral if NEUTRAL_DECODERS.contains(&neutral) => encoding,
            other => return Err(unsupported(other)),
        };
    }
    encoding.ok_or_else(|| unsupported("none"))
}

/// Whether the tokenizer prepends a space to the text.
fn prepends_space(document: &Value) -> bool {
    let mut kinds = Vec::new();
    collect_kinds(&document["normalizer"], "normalizers", &mut kinds);
    let prepends = kinds.contains(&"Prepend");
    let metaspace = &document["pre_tokenizer"];
    let scheme = metaspace["prepend_scheme"].as_str().unwrap_or("always");
    prepends || (metaspace["type"] == "Metaspace" && scheme != "never")
}

/// Collects the `type` of a component and of the components listed in it.
fn collect_kinds<'a>(component: &'a Value, list: &str, kinds: &mut Vec<&'a str>) {
    if let Some(kind) = component["type"].as_str() {
        kinds.push(kind);
    }
    for inner in component[list].as_array().into_iter().flatten() {
        collect_kinds(inner, list, kinds);
    }
}

/// Reads a JSON file; one that does not exist is the default.
fn optional_json<T: DeserializeOwned + Default>(path: &Path) -> Result<T, Diagnostic> {
    let content = match read_limited(path) {
        Ok(content) => content,
        Err(error) if error.code == Code::ModelNotFound => return Ok(T::default()),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&content).map_err(|e| about_file(errors::json_error(&e), path))
}
