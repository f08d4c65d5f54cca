use std::collections::HashSet;

use diagnostics::Diagnostic;
use model_format::Gguf;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokenizers::{
    AddedToken, NormalizerWrapper, PreTokenizerWrapper, Tokenizer,
    models::bpe::{BPE, BpeBuilder, Vocab},
};

use crate::{
    codec::{Boundaries, Codec, CodecSettings, Encoder},
    errors::{self, invalid_tokenizer},
    pre_tokenizer::{self, PreTokenizer, spaces_as_marks},
    token_table::{TokenEncoding, TokenTable},
};

/// Token types in `tokenizer.ggml.token_type`.
const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// Control tokens that end a turn, even where the file's metadata names a different one.
const END_OF_TURN: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
];

/// Special tokens of Phi-3 that do not absorb the white space after them. All others do, but
/// GGUF files do not record it.
const PHI3_WITHOUT_RSTRIP: &[&str] = &["<unk>", "<s>", "<|endoftext|>"];

/// Tokens of a GGUF file with their types, by id.
struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    types: Vec<i64>,
}

impl Codec {
    /// Builds the codec from the metadata of a GGUF file: BPE with merges (`gpt2`, `gemma4`) or
    /// SentencePiece (`llama`), and the chat template.
    ///
    /// Errors: `INVALID_MODEL_FILE`, and `UNSUPPORTED_MODEL` for any other tokenizer or
    /// pre-tokenizer.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Self, Diagnostic> {
        let key = "tokenizer.ggml.model";
        let model = gguf.required(key, gguf.string(key)?)?;
        let vocabulary = Vocabulary::read(gguf)?;
        let (mut tokenizer, encoding, add_bos, leading_space) = match model {
            "gpt2" | "gemma4" => {
                let name = match model {
                    "gemma4" => "gemma4",
                    _ => gguf.string("tokenizer.ggml.pre")?.unwrap_or("default"),
                };
                let rules = pre_tokenizer::named(name)?;
                let add_bos = rules.add_bos || model == "gemma4";
                let encoding = if rules.is_byte_level {
                    TokenEncoding::ByteLevel
                } else {
                    TokenEncoding::SentencePiece
                };
                let tokenizer = bpe(gguf, &vocabulary, rules)?;
                (tokenizer, encoding, add_bos, false)
            }
            "llama" => {
                let leading_space = gguf
                    .bool("tokenizer.ggml.add_space_prefix")?
                    .unwrap_or(true);
                let tokenizer = sentencepiece(gguf, &vocabulary, leading_space)?;
                (tokenizer, TokenEncoding::SentencePiece, true, leading_space)
            }
            other => {
                let known = ["gpt2", "llama", "gemma4"];
                return Err(errors::unsupported("tokenizer", other, &known));
            }
        };
        let architecture = gguf.string("general.architecture")?;
        let rstrip = architecture == Some("phi3") && model == "llama";
        tokenizer
            .add_tokens(vocabulary.added_tokens(rstrip))
            .map_err(invalid_tokenizer)?;
        let table = TokenTable::from_tokenizer(&tokenizer, encoding)?;

        let bos = gguf.u32("tokenizer.ggml.bos_token_id")?;
        if let Some(id) = bos
            && vocabulary.text(id).is_none()
        {
            return Err(errors::special_token_out_of_range(
                "begin",
                id,
                "vocabulary",
                vocabulary.tokens.len(),
            ));
        }
        let add_bos = gguf
            .bool("tokenizer.ggml.add_bos_token")?
            .unwrap_or(add_bos);
        let add_eos = gguf.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
        let eos = gguf.u32("tokenizer.ggml.eos_token_id")?;
        let mut end_tokens = vocabulary.end_of_turn_tokens();
        for key in ["eos", "eot", "eom"] {
            end_tokens.extend(gguf.u32(&format!("tokenizer.ggml.{key}_token_id"))?);
        }
        let text = |id: Option<u32>| id.and_then(|id| vocabulary.text(id));
        let settings = CodecSettings {
            chat_template: gguf.string("tokenizer.chat_template")?.map(str::to_owned),
            tool_template: gguf
                .string("tokenizer.chat_template.tool_use")?
                .map(str::to_owned),
            bos_token: text(bos),
            eos_token: text(eos),
            end_tokens,
            add_bos: Some(add_bos),
            add_eos,
        };
        let boundaries = Boundaries {
            prepended: bos.filter(|_| add_bos),
            appended: eos.filter(|_| add_eos),
            leading_space,
            ..Boundaries::default()
        };
        let encoder = Encoder::Tokenizer(Box::new(tokenizer));
        Ok(Self::new(encoder, table, boundaries, settings))
    }
}

impl<'a> Vocabulary<'a> {
    fn read(gguf: &Gguf<'a>) -> Result<Self, Diagnostic> {
        let key = "tokenizer.ggml.tokens";
        let tokens = gguf.required(key, gguf.strings(key)?)?;
        let types = match gguf.i64s("tokenizer.ggml.token_type")? {
            Some(types) => types,
            None => vec![NORMAL; tokens.len()],
        };
        if types.len() != tokens.len() {
            return Err(errors::count_mismatch(tokens.len(), types.len(), "types"));
        }
        Ok(Self { tokens, types })
    }

    fn with_types(&self) -> impl Iterator<Item = (&'a str, i64)> {
        self.tokens.iter().copied().zip(self.types.iter().copied())
    }

    fn text(&self, id: u32) -> Option<String> {
        self.tokens.get(id as usize).map(|&token| token.to_owned())
    }

    fn ids_by_text(&self) -> Vocab {
        (0..)
            .zip(&self.tokens)
            .map(|(id, &token)| (token.to_owned(), id))
            .collect()
    }

    /// Tokens that are recognized before pre-tokenization. With `rstrip`, those of Phi-3
    /// absorb the white space after them.
    fn added_tokens(&self, rstrip: bool) -> Vec<AddedToken> {
        self.with_types()
            .filter(|(_, kind)| [UNKNOWN, CONTROL, USER_DEFINED].contains(kind))
            .map(|(token, kind)| {
                AddedToken::from(token, kind != USER_DEFINED)
                    .normalized(false)
                    .rstrip(rstrip && !PHI3_WITHOUT_RSTRIP.contains(&token))
            })
            .collect()
    }

    /// Sets how a model encodes characters without a token: by tokens for their bytes.
    fn with_byte_fallback(&self, model: BpeBuilder) -> BpeBuilder {
        let model = model.byte_fallback(true).fuse_unk(true);
        let unknown = self.with_types().find(|(_, kind)| *kind == UNKNOWN);
        match unknown {
            Some((token, _)) => model.unk_token(token.to_owned()),
            None => model,
        }
    }

    fn end_of_turn_tokens(&self) -> Vec<u32> {
        (0..)
            .zip(self.with_types())
            .filter(|(_, (token, kind))| *kind == CONTROL && END_OF_TURN.contains(token))
            .map(|(id, _)| id)
            .collect()
    }
}

fn bpe(
    gguf: &Gguf<'_>,
    vocabulary: &Vocabulary<'_>,
    rules: PreTokenizer,
) -> Result<Tokenizer, Diagnostic> {
    let key = "tokenizer.ggml.merges";
    let lines = gguf.required(key, gguf.strings(key)?)?;
    let known: HashSet<&str> = vocabulary.tokens.iter().copied().collect();
    let mut merges = Vec::with_capacity(lines.len());
    for line in lines {
        // The left token is not empty and may start with a space.
        let pair = line
            .char_indices()
            .skip(1)
            .find(|(_, c)| *c == ' ')
            .map(|(space, _)| (&line[..space], &line[space + 1..]));
        let Some((left, right)) = pair.filter(|(l, r)| known.contains(format!("{l}{r}").as_str()))
        else {
            return Err(errors::merge_without_token(line));
        };
        merges.push((left.to_owned(), right.to_owned()));
    }
    let mut model = BPE::builder()
        .vocab_and_merges(vocabulary.ids_by_text(), merges)
        .ignore_merges(rules.ignore_merges);
    if !rules.is_byte_level {
        model = vocabulary.with_byte_fallback(model);
    }
    let mut tokenizer = Tokenizer::new(model.build().map_err(invalid_tokenizer)?);
    let normalizer: Option<NormalizerWrapper> = rules.normalizer.map(component).transpose()?;
    tokenizer
        .with_normalizer(normalizer)
        .map_err(invalid_tokenizer)?;
    tokenizer.with_pre_tokenizer(Some(component::<PreTokenizerWrapper>(rules.splits)?));
    Ok(tokenizer)
}

/// Builds SentencePiece BPE, which repeatedly joins the adjacent pair whose result has the best
/// score. Merges sorted by the score of their result are equivalent.
fn sentencepiece(
    gguf: &Gguf<'_>,
    vocabulary: &Vocabulary<'_>,
    leading_space: bool,
) -> Result<Tokenizer, Diagnostic> {
    let key = "tokenizer.ggml.scores";
    let scores = gguf.required(key, gguf.f32s(key)?)?;
    let tokens = vocabulary.tokens.len();
    if scores.len() != tokens {
        return Err(errors::count_mismatch(tokens, scores.len(), "scores"));
    }
    let mergeable = |kind: i64| kind == NORMAL || kind == USER_DEFINED;
    let known: HashSet<&str> = vocabulary
        .with_types()
        .filter(|(_, kind)| mergeable(*kind))
        .map(|(token, _)| token)
        .collect();
    let mut scored = Vec::new();
    for ((token, kind), score) in vocabulary.with_types().zip(scores) {
        if !mergeable(kind) {
            continue;
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if known.contains(left) && known.contains(right) {
                scored.push((score, left.to_owned(), right.to_owned()));
            }
        }
    }
    // A stable sort keeps equal scores in vocabulary order.
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let merges = scored
        .into_iter()
        .map(|(_, left, right)| (left, right))
        .collect();

    let model = BPE::builder().vocab_and_merges(vocabulary.ids_by_text(), merges);
    let model = vocabulary.with_byte_fallback(model);
    let mut tokenizer = Tokenizer::new(model.build().map_err(invalid_tokenizer)?);
    let mut steps = Vec::new();
    if leading_space {
        steps.push(json!({"type": "Prepend", "prepend": "▁"}));
    }
    steps.push(spaces_as_marks());
    let normalizer = json!({"type": "Sequence", "normalizers": steps});
    tokenizer
        .with_normalizer(Some(component::<NormalizerWrapper>(normalizer)?))
        .map_err(invalid_tokenizer)?;
    Ok(tokenizer)
}

/// Builds a tokenizer component from its `tokenizer.json` form.
fn component<T: DeserializeOwned>(description: Value) -> Result<T, Diagnostic> {
    serde_json::from_value(description).map_err(Diagnostic::internal)
}
