use std::{collections::HashMap, path::Path};

use diagnostics::{Code, Diagnostic, excerpt};
use model_format::{about_file, read_limited};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::{
    Codec, Settings,
    codec::Around,
    damaged,
    pieces::{PieceTable, Spelling, spelled_bytes},
    unsupported,
};

/// Decoder kinds that say nothing about spelling.
const NEUTRAL_DECODERS: &[&str] = &["Fuse", "Strip", "Replace", "Sequence"];

/// `tokenizer_config.json`, as far as it matters here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    chat_template: Option<TemplateField>,
    bos_token: Option<TokenField>,
    eos_token: Option<TokenField>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
}

/// `generation_config.json` and `config.json`, as far as they matter here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct EndConfig {
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
    /// The codec of a Hugging Face model folder: `tokenizer.json`, and beside it
    /// `tokenizer_config.json`, `chat_template.jinja`, `generation_config.json` and
    /// `config.json` where they exist.
    pub fn from_dir(folder: &Path) -> Result<Self, Diagnostic> {
        let path = folder.join("tokenizer.json");
        let json = read_limited(&path)?;
        let config: TokenizerConfig = optional_json(&folder.join("tokenizer_config.json"))?;
        let template_path = folder.join("chat_template.jinja");
        let templates = if template_path.exists() {
            let source = String::from_utf8(read_limited(&template_path)?)
                .map_err(|_| about_file(damaged("it is not UTF-8"), &template_path))?;
            Some(TemplateField::One(source))
        } else {
            config.chat_template
        };
        let template = |name| templates.as_ref().and_then(|t| t.named(name));
        let generation: EndConfig = optional_json(&folder.join("generation_config.json"))?;
        let ends = match generation.eos_token_id {
            Some(ids) => Some(ids),
            None => optional_json::<EndConfig>(&folder.join("config.json"))?.eos_token_id,
        };
        let settings = Settings {
            chat_template: template("default"),
            tool_template: template("tool_use"),
            begin_token: config.bos_token.map(TokenField::text),
            end_token: config.eos_token.map(TokenField::text),
            end_tokens: match ends {
                None => Vec::new(),
                Some(Ids::One(id)) => vec![id],
                Some(Ids::Several(ids)) => ids,
            },
            adds_begin: config.add_bos_token,
            adds_end: config.add_eos_token == Some(true),
        };
        Self::from_tokenizer_json(&json, settings).map_err(|e| about_file(e, &path))
    }

    /// The codec of a `tokenizer.json`.
    ///
    /// Errors: `INVALID_MODEL_FILE`, and `UNSUPPORTED_MODEL` for a way of spelling tokens
    /// that this program does not know.
    pub fn from_tokenizer_json(json: &[u8], settings: Settings) -> Result<Self, Diagnostic> {
        let (spelling, adds_space) = look_over(json)?;
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(damaged)?;
        // A prompt that is too long is an error elsewhere, never cut here.
        tokenizer.with_truncation(None).map_err(damaged)?;
        tokenizer.with_padding(None);
        let pieces = piece_table(&tokenizer, spelling)?;
        check_post_processor(&tokenizer, pieces.len())?;
        let special = |name: &Option<String>| pieces.special_id(name.as_deref()?);
        let begin = special(&settings.begin_token);
        let around = Around {
            begin: begin.filter(|_| settings.adds_begin == Some(true)),
            never_begin: begin.filter(|_| settings.adds_begin == Some(false)),
            end: special(&settings.end_token).filter(|_| settings.adds_end),
            behind: put_behind(&tokenizer)?,
            space: adds_space,
        };
        Ok(Self::new(tokenizer, pieces, around, settings))
    }
}

/// The tokens that the post-processor puts behind a text.
fn put_behind(tokenizer: &Tokenizer) -> Result<Vec<u32>, Diagnostic> {
    let encode = |surround| -> Result<Vec<u32>, Diagnostic> {
        let encoding = tokenizer.encode_fast("a", surround).map_err(damaged)?;
        Ok(encoding.get_ids().to_vec())
    };
    let (text, whole) = (encode(false)?, encode(true)?);
    let mut places = whole.windows(text.len().max(1));
    let begin = places.position(|place| place == text);
    Ok(begin.map_or_else(Vec::new, |begin| whole[begin + text.len()..].to_vec()))
}

/// How a `tokenizer.json` spells tokens and whether it puts a space before the text; refuses
/// what cannot be used. The document takes many times its size, so it is gone before the
/// tokenizer is made.
fn look_over(json: &[u8]) -> Result<(Spelling, bool), Diagnostic> {
    let document: Value =
        serde_json::from_slice(json).map_err(|e| damaged(format!("not JSON: {e}")))?;
    check_merges(&document)?;
    Ok((spelling_of(&document["decoder"])?, adds_space(&document)))
}

/// The bytes of every token that the tokenizer knows.
pub(crate) fn piece_table(
    tokenizer: &Tokenizer,
    spelling: Spelling,
) -> Result<PieceTable, Diagnostic> {
    let mut pieces: HashMap<u32, Vec<u8>> = tokenizer
        .get_vocab(false)
        .into_iter()
        .map(|(token, id)| (id, spelled_bytes(&token, spelling)))
        .collect();
    let mut special = HashMap::new();
    // Added tokens stand in the text as they are, but for spaces, which decoders make of `▁`
    // wherever it is: Gemma's runs of spaces are added tokens.
    for (id, token) in tokenizer.get_added_tokens_decoder() {
        if token.special {
            special.insert(id, token.content);
        } else {
            let text = match spelling {
                Spelling::SentencePiece => token.content.replace('▁', " "),
                Spelling::ByteLevel => token.content,
            };
            pieces.insert(id, text.into_bytes());
        }
    }
    PieceTable::new(&pieces, special)
}

/// The `tokenizers` crate panics on a merge whose result is longer than any token.
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
            return Err(damaged(format!(
                "a merge makes {length} bytes, the longest token has {longest}"
            )));
        }
    }
    Ok(())
}

/// The `tokenizers` crate panics on a template that names what there is not. Whatever is put
/// around a text must be a token.
fn check_post_processor(tokenizer: &Tokenizer, vocab_size: usize) -> Result<(), Diagnostic> {
    let Some(processor) = tokenizer.get_post_processor() else {
        return Ok(());
    };
    // As the crate understood it, in the form that it writes itself.
    check_template(&serde_json::to_value(processor).map_err(Diagnostic::internal)?)?;
    let around = tokenizer.encode_fast("", true).map_err(damaged)?;
    match around
        .get_ids()
        .iter()
        .find(|&&id| id as usize >= vocab_size)
    {
        Some(id) => Err(damaged(format!(
            "it puts token {id} around a text, it has {vocab_size} tokens"
        ))),
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
            return Err(damaged("what it puts around one text needs two"));
        }
        let named = piece["SpecialToken"]["id"].as_str();
        if let Some(name) = named.filter(|name| tokens.get(name).is_none()) {
            return Err(damaged(format!(
                "the token `{}` that it puts around a text is not there",
                excerpt(name, 80)
            )));
        }
    }
    for token in tokens.as_object().into_iter().flat_map(|t| t.values()) {
        let length = |name: &str| token[name].as_array().map(Vec::len);
        if length("ids") != length("tokens") {
            return Err(damaged("a token that it puts around a text has no name"));
        }
    }
    Ok(())
}

fn spelling_of(decoder: &Value) -> Result<Spelling, Diagnostic> {
    const SUPPORTED: &[&str] = &["ByteLevel", "ByteFallback", "Metaspace"];
    let mut kinds = Vec::new();
    collect_kinds(decoder, "decoders", &mut kinds);
    let mut spelling = None;
    for kind in kinds {
        spelling = match kind {
            "ByteLevel" => Some(Spelling::ByteLevel),
            "ByteFallback" | "Metaspace" => Some(Spelling::SentencePiece),
            neutral if NEUTRAL_DECODERS.contains(&neutral) => spelling,
            other => return Err(unsupported("tokenizer decoder", other, SUPPORTED)),
        };
    }
    spelling.ok_or_else(|| unsupported("tokenizer decoder", "none", SUPPORTED))
}

/// Whether the vocabulary puts a space before the text.
fn adds_space(document: &Value) -> bool {
    let mut kinds = Vec::new();
    collect_kinds(&document["normalizer"], "normalizers", &mut kinds);
    let prepends = kinds.contains(&"Prepend");
    let metaspace = &document["pre_tokenizer"];
    let scheme = metaspace["prepend_scheme"].as_str().unwrap_or("always");
    prepends || (metaspace["type"] == "Metaspace" && scheme != "never")
}

/// The `type` of a component and, for a sequence, of those in it.
fn collect_kinds<'a>(component: &'a Value, list: &str, kinds: &mut Vec<&'a str>) {
    if let Some(kind) = component["type"].as_str() {
        kinds.push(kind);
    }
    for inner in component[list].as_array().into_iter().flatten() {
        collect_kinds(inner, list, kinds);
    }
}

/// A JSON file that may be absent.
fn optional_json<T: DeserializeOwned + Default>(path: &Path) -> Result<T, Diagnostic> {
    let content = match read_limited(path) {
        Ok(content) => content,
        Err(error) if error.code == Code::ModelNotFound => return Ok(T::default()),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&content)
        .map_err(|e| about_file(damaged(format!("not the JSON expected: {e}")), path))
}
