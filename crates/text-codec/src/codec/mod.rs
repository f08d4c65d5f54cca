use std::sync::OnceLock;

use diagnostics::Diagnostic;
use reasoning::Format;
use tokenizers::Tokenizer;
use tool_calls::ToolFormat;

use crate::{
    control::ControlTokens, errors, reasoning_marks::ReasoningMarks, template::ChatTemplate,
    token_table::TokenTable,
};

mod byte_level;
mod conversation;

/// Chat templates and special tokens of a model, which `tokenizer.json` does not contain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CodecSettings {
    /// Jinja source of the chat template.
    pub chat_template: Option<String>,
    /// Jinja source of a separate template for conversations with tools.
    pub tool_template: Option<String>,
    /// Text of the begin-of-sequence token, available to the template.
    pub bos_token: Option<String>,
    /// Text of the end-of-sequence token, available to the template; it ends generation.
    pub eos_token: Option<String>,
    /// Ids of further tokens that end generation.
    pub end_tokens: Vec<u32>,
    /// Whether a plain prompt starts with the begin-of-sequence token; `None` leaves this to
    /// `tokenizer.json`.
    pub add_bos: Option<bool>,
    /// Whether a text to embed ends with the end-of-sequence token.
    pub add_eos: bool,
}

/// Tokens at the boundaries of a text that is not a conversation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Boundaries {
    /// Prepended to a plain prompt that does not start with it.
    pub prepended: Option<u32>,
    /// Removed where the post-processor prepends it to a plain prompt.
    pub removed: Option<u32>,
    /// Appended to a text to embed.
    pub appended: Option<u32>,
    /// Appended to every text by the post-processor.
    pub post_processor_suffix: Vec<u32>,
    /// The tokenizer prepends a space, which decoding removes.
    pub leading_space: bool,
}

pub(crate) enum Encoder {
    Tokenizer(Box<Tokenizer>),
    Bytes,
}

/// The tokenizer and chat templates of one model.
pub struct Codec {
    encoder: Encoder,
    boundaries: Boundaries,
    longest_token_bytes: usize,
    table: TokenTable,
    control: Result<ControlTokens, Diagnostic>,
    /// The tokenizer without control tokens, built when a conversation first spells one.
    plain_encoder: OnceLock<Box<Tokenizer>>,
    /// Whether the template leaves out system messages, known after the first one.
    drops_system: OnceLock<bool>,
    end_tokens: Vec<u32>,
    template: Option<Result<ChatTemplate, Diagnostic>>,
    tool_template: Option<Result<ChatTemplate, Diagnostic>>,
    tool_format: Option<&'static ToolFormat>,
    markers: Vec<(u32, String)>,
    reasoning: Option<ReasoningMarks>,
}

impl Codec {
    pub(crate) fn new(
        encoder: Encoder,
        table: TokenTable,
        boundaries: Boundaries,
        settings: CodecSettings,
    ) -> Self {
        let mut end_tokens = settings.end_tokens;
        let eos_name = settings.eos_token.as_deref();
        end_tokens.extend(eos_name.and_then(|name| table.special_id(name)));
        let template = settings.chat_template.as_deref();
        let reasoning =
            template.and_then(|template| ReasoningMarks::detect(template, &table, &mut end_tokens));
        end_tokens.sort_unstable();
        end_tokens.dedup();
        let source = settings.tool_template.as_deref();
        let source = source.or(settings.chat_template.as_deref());
        let tool_format = source.and_then(ToolFormat::detect).map(|format| {
            // Since version 11, vocabularies have a mark between name and arguments.
            let named = *format == ToolFormat::MISTRAL && table.special_id("[ARGS]").is_some();
            if named {
                &ToolFormat::MISTRAL_NAMED
            } else {
                format
            }
        });
        let markers = tool_format.map_or_else(Vec::new, |f| table.special_within(&f.texts()));
        let bos_token = settings.bos_token.unwrap_or_default();
        let eos_token = settings.eos_token.unwrap_or_default();
        // A model whose template does not compile still serves plain prompts.
        let compile =
            |source: String| ChatTemplate::new(&source, bos_token.clone(), eos_token.clone());
        let template = settings.chat_template.map(compile);
        let tool_template = settings.tool_template.map(compile);
        Self {
            encoder,
            boundaries,
            longest_token_bytes: table.longest(),
            control: ControlTokens::new(table.special_names()),
            plain_encoder: OnceLock::new(),
            drops_system: OnceLock::new(),
            table,
            end_tokens,
            template,
            tool_template,
            tool_format,
            markers,
            reasoning,
        }
    }

    /// Encodes a plain prompt, with the begin-of-sequence token if the model expects one.
    /// Special tokens spelled out in the text are recognized.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Diagnostic> {
        let mut ids = self.encode_with(text, true)?;
        let Boundaries {
            prepended, removed, ..
        } = self.boundaries;
        if let Some(bos) = prepended
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        if let Some(bos) = removed
            && ids.first() == Some(&bos)
            && !text.starts_with(&self.token_text(bos))
        {
            ids.remove(0);
        }
        Ok(ids)
    }

    /// Appends the end-of-sequence token to a text to embed, if the model expects one.
    pub fn append_end_token(&self, ids: &mut Vec<u32>) {
        ids.extend(
            self.boundaries
                .appended
                .filter(|end| ids.last() != Some(end)),
        );
    }

    /// Truncates a text to embed to at most `max_tokens` tokens, keeping the tokens that
    /// belong at its end.
    pub fn truncate(&self, ids: &mut Vec<u32>, max_tokens: usize) {
        if ids.len() <= max_tokens {
            return;
        }
        let mut suffix = self.boundaries.post_processor_suffix.clone();
        self.append_end_token(&mut suffix);
        ids.truncate(max_tokens.saturating_sub(suffix.len()));
        ids.extend(suffix);
        ids.truncate(max_tokens);
    }

    /// Format in which the model writes tool calls; `None` if it does not support tools. A model
    /// whose own format is unknown has [`ToolFormat::GENERAL`], to which its output must be
    /// constrained.
    pub fn tool_format(&self) -> Option<&'static ToolFormat> {
        self.supports_tools()
            .then(|| self.tool_format.unwrap_or(&ToolFormat::GENERAL))
    }

    /// Whether the chat template passes tool definitions to the model.
    pub fn supports_tools(&self) -> bool {
        let template = self.tool_template.as_ref().or(self.template.as_ref());
        matches!(template, Some(Ok(template)) if template.reads("tools"))
    }

    /// Special tokens that mark tool calls in the model's format, with their texts.
    pub fn markers(&self) -> &[(u32, String)] {
        &self.markers
    }

    /// Text of a special token that marks tool calls. Other special tokens have no text.
    pub fn marker(&self, id: u32) -> Option<&str> {
        let marker = self.markers.iter().find(|(token, _)| *token == id);
        marker.map(|(_, text)| text.as_str())
    }

    /// How the model writes its reasoning; `None` if it does not reason, as far as is known.
    pub fn reasoning(&self) -> Option<&Format> {
        self.reasoning.as_ref().map(|marks| &marks.format)
    }

    /// Text of a special token that separates reasoning and answer. Other special tokens have no
    /// text.
    pub fn reasoning_mark(&self, id: u32) -> Option<&'static str> {
        self.reasoning.as_ref()?.text(id)
    }

    /// Encodes a text that the model writes, such as a mark. Special tokens spelled out in it
    /// are recognized, and nothing is added.
    pub fn encode_output(&self, text: &str) -> Result<Vec<u32>, Diagnostic> {
        self.encode_with(text, false)
    }

    /// Returns the text of the last `count` tokens, special tokens by name.
    pub fn end_of(&self, ids: &[u32], count: usize) -> String {
        let last = &ids[ids.len().saturating_sub(count)..];
        let bytes: Vec<u8> = last
            .iter()
            .flat_map(|id| self.table.name(*id))
            .copied()
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Encodes a text in which no control token is recognized.
    fn encode_plain(&self, text: &str) -> Result<Vec<u32>, Diagnostic> {
        let Encoder::Tokenizer(tokenizer) = &self.encoder else {
            return Ok(text.bytes().map(u32::from).collect());
        };
        let plain = self.plain_encoder.get_or_init(|| {
            let mut plain = tokenizer.clone();
            plain.set_encode_special_tokens(true);
            plain
        });
        let encoding = plain.encode_fast(text, false);
        encoding
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(errors::not_tokenizable)
    }

    fn encode_with(&self, text: &str, post_process: bool) -> Result<Vec<u32>, Diagnostic> {
        match &self.encoder {
            Encoder::Tokenizer(tokenizer) => tokenizer
                .encode_fast(text, post_process)
                .map(|encoding| encoding.get_ids().to_vec())
                .map_err(errors::not_tokenizable),
            Encoder::Bytes => Ok(byte_level::encode(text)),
        }
    }

    /// Decodes tokens to text. Special tokens are skipped; invalid UTF-8 becomes U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids
            .iter()
            .flat_map(|&id| self.token_bytes(id))
            .copied()
            .collect();
        let text = String::from_utf8_lossy(&bytes);
        match text.strip_prefix(' ') {
            Some(rest) if self.boundaries.leading_space => rest.to_owned(),
            _ => text.into_owned(),
        }
    }

    /// Bytes that a token contributes to the text: none for a special token or an id beyond
    /// the vocabulary.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.table.bytes(id)
    }

    /// Length in bytes of the longest token; for a special token its name counts.
    pub fn longest_token_bytes(&self) -> usize {
        self.longest_token_bytes
    }

    /// Text of a token for display: special tokens by name, incomplete UTF-8 as U+FFFD.
    pub fn token_text(&self, id: u32) -> String {
        self.table.text(id)
    }

    /// Ids that end generation, sorted.
    pub fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    /// Number of token ids. The model's embedding may have more rows, for alignment.
    pub fn vocab_size(&self) -> usize {
        self.table.len()
    }

    /// Checks that every id this codec produces is within the model's vocabulary.
    pub fn check_fits(&self, model_vocab_size: usize) -> Result<(), Diagnostic> {
        if self.vocab_size() > model_vocab_size {
            return Err(errors::vocabulary_exceeds_model(
                self.vocab_size(),
                model_vocab_size,
            ));
        }
        let mut end_tokens = self.end_tokens.iter();
        match end_tokens.find(|&&id| id as usize >= model_vocab_size) {
            Some(&id) => Err(errors::special_token_out_of_range(
                "end",
                id,
                "model",
                model_vocab_size,
            )),
            None => Ok(()),
        }
    }
}
