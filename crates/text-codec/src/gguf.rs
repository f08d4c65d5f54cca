use std::collections::HashSet;

use diagnostics::Diagnostic;
use model_format::Gguf;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokenizers::{
    AddedToken, NormalizerWrapper, PreTokenizerWrapper, Tokenizer,
    models::bpe::{BPE, Vocab},
};

use crate::{
    Codec, Settings, codec::Around, damaged, huggingface::piece_table, pieces::Spelling,
    pre_tokenizer, unsupported,
};

/// Kinds of token in `tokenizer.ggml.token_type`.
const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// Control tokens that end a turn even when the file names only another one.
const TURN_ENDS: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
];

/// Special tokens of Phi-3 that leave the white space behind them alone; all others take it
/// along, which files of its family do not say.
const PHI3_KEEPS_SPACE: &[&str] = &["<unk>", "<s>", "<|endoftext|>"];

/// The vocabulary as the file has it.
struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<i64>,
}

impl Codec {
    /// The codec in the metadata of a GGUF file: byte-level BPE (`gpt2`) and sentencepiece
    /// (`llama`), with the chat template beside it.
    ///
    /// Errors: `INVALID_MODEL_FILE`, and `UNSUPPORTED_MODEL` for another kind of tokenizer
    /// or pre-tokenizer, which is named.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Self, Diagnostic> {
        let key = "tokenizer.ggml.model";
        let model = gguf.required(key, gguf.string(key)?)?;
        let vocabulary = Vocabulary::read(gguf)?;
        let (mut tokenizer, spelling, adds_begin, adds_space) = match model {
            "gpt2" => {
                let name = gguf.string("tokenizer.ggml.pre")?.unwrap_or("default");
                let rules = pre_tokenizer::named(name)?;
                let adds_begin = rules.adds_begin;
                let tokenizer = byte_level_bpe(gguf, &vocabulary, rules)?;
                (tokenizer, Spelling::ByteLevel, adds_begin, false)
            }
            "llama" => {
                let adds_space = gguf
                    .bool("tokenizer.ggml.add_space_prefix")?
                    .unwrap_or(true);
                let tokenizer = sentencepiece(gguf, &vocabulary, adds_space)?;
                (tokenizer, Spelling::SentencePiece, true, adds_space)
            }
            other => return Err(unsupported("tokenizer", other, &["gpt2", "llama"])),
        };
        let architecture = gguf.string("general.architecture")?;
        let strips = architecture == Some("phi3") && model == "llama";
        let added = vocabulary.added(strips);
        tokenizer.add_tokens(added).map_err(damaged)?;
        let pieces = piece_table(&tokenizer, spelling)?;

        let begin_id = gguf.u32("tokenizer.ggml.bos_token_id")?;
        if let Some(id) = begin_id
            && vocabulary.text(id).is_none()
        {
            return Err(damaged(format!(
                "its begin token is {id}, it has {} tokens",
                vocabulary.tokens.len()
            )));
        }
        let adds_begin = gguf
            .bool("tokenizer.ggml.add_bos_token")?
            .unwrap_or(adds_begin);
        let adds_end = gguf.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
        let end_id = gguf.u32("tokenizer.ggml.eos_token_id")?;
        let mut end_tokens = vocabulary.turn_ends();
        for key in ["eos", "eot", "eom"] {
            end_tokens.extend(gguf.u32(&format!("tokenizer.ggml.{key}_token_id"))?);
        }
        let text = |id: Option<u32>| id.and_then(|id| vocabulary.text(id));
        let settings = Settings {
            chat_template: gguf.string("tokenizer.chat_template")?.map(str::to_owned),
            tool_template: gguf
                .string("tokenizer.chat_template.tool_use")?
                .map(str::to_owned),
            begin_token: text(begin_id),
            end_token: text(end_id),
            end_tokens,
            adds_begin: Some(adds_begin),
            adds_end,
        };
        let around = Around {
            begin: begin_id.filter(|_| adds_begin),
            end: end_id.filter(|_| adds_end),
            space: adds_space,
            ..Around::default()
        };
        Ok(Self::new(tokenizer, pieces, around, settings))
    }
}

impl<'a> Vocabulary<'a> {
    fn read(gguf: &Gguf<'a>) -> Result<Self, Diagnostic> {
        let key = "tokenizer.ggml.tokens";
        let tokens = gguf.required(key, gguf.strings(key)?)?;
        let kinds = match gguf.i64s("tokenizer.ggml.token_type")? {
            Some(kinds) => kinds,
            None => vec![NORMAL; tokens.len()],
        };
        if kinds.len() != tokens.len() {
            return Err(damaged(format!(
                "{} tokens have {} types",
                tokens.len(),
                kinds.len()
            )));
        }
        Ok(Self { tokens, kinds })
    }

    fn with_kinds(&self) -> impl Iterator<Item = (&'a str, i64)> {
        self.tokens.iter().copied().zip(self.kinds.iter().copied())
    }

    fn text(&self, id: u32) -> Option<String> {
        self.tokens.get(id as usize).map(|&token| token.to_owned())
    }

    fn by_text(&self) -> Vocab {
        (0..)
            .zip(&self.tokens)
            .map(|(id, &token)| (token.to_owned(), id))
            .collect()
    }

    /// Tokens that are found in a text before it is split any further; `strips` when those
    /// of Phi-3 take white space along.
    fn added(&self, strips: bool) -> Vec<AddedToken> {
        self.with_kinds()
            .filter(|(_, kind)| [UNKNOWN, CONTROL, USER_DEFINED].contains(kind))
            .map(|(token, kind)| {
                AddedToken::from(token, kind != USER_DEFINED)
                    .normalized(false)
                    .rstrip(strips && !PHI3_KEEPS_SPACE.contains(&token))
            })
            .collect()
    }

    fn turn_ends(&self) -> Vec<u32> {
        (0..)
            .zip(self.with_kinds())
            .filter(|(_, (token, kind))| *kind == CONTROL && TURN_ENDS.contains(token))
            .map(|(id, _)| id)
            .collect()
    }
}

fn byte_level_bpe(
    gguf: &Gguf<'_>,
    vocabulary: &Vocabulary<'_>,
    rules: pre_tokenizer::PreTokenizer,
) -> Result<Tokenizer, Diagnostic> {
    let key = "tokenizer.ggml.merges";
    let lines = gguf.required(key, gguf.strings(key)?)?;
    let known: HashSet<&str> = vocabulary.tokens.iter().copied().collect();
    let mut merges = Vec::with_capacity(lines.len());
    for line in lines {
        // The first token of a merge has one character at least, which may be a space.
        let pair = line
            .char_indices()
            .skip(1)
            .find(|(_, c)| *c == ' ')
            .map(|(space, _)| (&line[..space], &line[space + 1..]));
        let Some((left, right)) = pair.filter(|(l, r)| known.contains(format!("{l}{r}").as_str()))
        else {
            return Err(damaged(format!(
                "the merge `{}` does not make a token",
                diagnostics::excerpt(line, 80)
            )));
        };
        merges.push((left.to_owned(), right.to_owned()));
    }
    let model = BPE::builder()
        .vocab_and_merges(vocabulary.by_text(), merges)
        .ignore_merges(rules.ignore_merges)
        .build()
        .map_err(damaged)?;
    let mut tokenizer = Tokenizer::new(model);
    let normalizer: Option<NormalizerWrapper> = rules.normalizer.map(component).transpose()?;
    tokenizer.with_normalizer(normalizer).map_err(damaged)?;
    tokenizer.with_pre_tokenizer(Some(component::<PreTokenizerWrapper>(rules.splits)?));
    Ok(tokenizer)
}

/// Sentencepiece's BPE: of all neighbours that make a token, those with the best score are
/// joined first. The same result comes from merges ordered by the score of what they make.
fn sentencepiece(
    gguf: &Gguf<'_>,
    vocabulary: &Vocabulary<'_>,
    adds_space: bool,
) -> Result<Tokenizer, Diagnostic> {
    let key = "tokenizer.ggml.scores";
    let scores = gguf.required(key, gguf.f32s(key)?)?;
    if scores.len() != vocabulary.tokens.len() {
        return Err(damaged(format!(
            "{} tokens have {} scores",
            vocabulary.tokens.len(),
            scores.len()
        )));
    }
    let mergeable = |kind: i64| kind == NORMAL || kind == USER_DEFINED;
    let known: HashSet<&str> = vocabulary
        .with_kinds()
        .filter(|(_, kind)| mergeable(*kind))
        .map(|(token, _)| token)
        .collect();
    let mut scored = Vec::new();
    for ((token, kind), score) in vocabulary.with_kinds().zip(scores) {
        if !mergeable(kind) {
            continue;
        }
        for (cut, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(cut);
            if known.contains(left) && known.contains(right) {
                scored.push((score, left.to_owned(), right.to_owned()));
            }
        }
    }
    // Stable, so that equal scores keep the order of the vocabulary.
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let merges = scored
        .into_iter()
        .map(|(_, left, right)| (left, right))
        .collect();

    let unknown = vocabulary.with_kinds().find(|(_, kind)| *kind == UNKNOWN);
    let mut model = BPE::builder()
        .vocab_and_merges(vocabulary.by_text(), merges)
        .byte_fallback(true)
        .fuse_unk(true);
    if let Some((token, _)) = unknown {
        model = model.unk_token(token.to_owned());
    }
    let mut tokenizer = Tokenizer::new(model.build().map_err(damaged)?);
    let mut steps = Vec::new();
    if adds_space {
        steps.push(json!({"type": "Prepend", "prepend": "▁"}));
    }
    steps.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}));
    let normalizer = json!({"type": "Sequence", "normalizers": steps});
    tokenizer
        .with_normalizer(Some(component::<NormalizerWrapper>(normalizer)?))
        .map_err(damaged)?;
    Ok(tokenizer)
}

/// A part of a tokenizer from the form that it has in `tokenizer.json`.
fn component<T: DeserializeOwned>(description: Value) -> Result<T, Diagnostic> {
    serde_json::from_value(description).map_err(Diagnostic::internal)
}
