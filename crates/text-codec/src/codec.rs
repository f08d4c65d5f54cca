use std::collections::HashMap;

use diagnostics::{Code, Diagnostic, excerpt};
use tokenizers::Tokenizer;
use worker_contract::{Message, Role, ToolDefinition};

use crate::{ToolStyle, damaged, pieces::PieceTable, template::ChatTemplate};

const BYTE_LEVEL_END: u32 = 256;
const BYTE_LEVEL_END_TEXT: &str = "<|end|>";
/// Calls are written in the style of Hermes.
const BYTE_LEVEL_TEMPLATE: &str = "\
{% if tools %}tools: {{ tools | tojson }}\n{% endif %}\
{% for m in messages %}{{ m.role }}: {{ m.content }}\
{% for call in m.tool_calls or [] %}<tool_call>\
{\"name\": {{ call.function.name | tojson }}, \"arguments\": {{ call.function.arguments | tojson }}}\
</tool_call>{% endfor %}{{ '\n' }}{% endfor %}assistant: ";

/// What surrounds a vocabulary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Jinja source of the chat template.
    pub chat_template: Option<String>,
    /// Jinja source of a template of its own for conversations with tools.
    pub tool_template: Option<String>,
    /// Text of the begin token, for the template.
    pub begin_token: Option<String>,
    /// Text of the end token, for the template; it is an end token too.
    pub end_token: Option<String>,
    /// Ids that end an answer.
    pub end_tokens: Vec<u32>,
    /// Whether the begin token comes before a plain prompt; absent, as `tokenizer.json` says.
    pub adds_begin: Option<bool>,
    /// Whether the end token comes behind a text that becomes a vector.
    pub adds_end: bool,
}

/// What a codec puts around a text that is no conversation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Around {
    /// Comes before a plain prompt, where `tokenizer.json` does not put it already.
    pub begin: Option<u32>,
    /// Is taken away again where `tokenizer.json` puts it before a plain prompt.
    pub never_begin: Option<u32>,
    /// Comes behind a text that becomes a vector.
    pub end: Option<u32>,
    /// What `tokenizer.json` itself puts behind a text.
    pub behind: Vec<u32>,
    /// The vocabulary puts a space before the text, which is taken away again.
    pub space: bool,
}

enum Encoder {
    Tokenizer(Box<Tokenizer>),
    Bytes,
}

/// Text to tokens and back for one model.
pub struct Codec {
    encoder: Encoder,
    around: Around,
    longest_token_bytes: usize,
    pieces: PieceTable,
    end_tokens: Vec<u32>,
    template: Option<Result<ChatTemplate, Diagnostic>>,
    tool_template: Option<Result<ChatTemplate, Diagnostic>>,
    tool_style: Option<ToolStyle>,
    /// Special tokens that mark calls of tools in that style.
    markers: Vec<(u32, &'static str)>,
}

impl Codec {
    pub(crate) fn new(
        tokenizer: Tokenizer,
        pieces: PieceTable,
        around: Around,
        settings: Settings,
    ) -> Self {
        let encoder = Encoder::Tokenizer(Box::new(tokenizer));
        Self {
            around,
            ..Self::with(encoder, pieces, settings)
        }
    }

    fn with(encoder: Encoder, pieces: PieceTable, settings: Settings) -> Self {
        let mut end_tokens = settings.end_tokens;
        let named = settings.end_token.as_deref();
        end_tokens.extend(named.and_then(|name| pieces.special_id(name)));
        end_tokens.sort_unstable();
        end_tokens.dedup();
        let tool_style = settings
            .tool_template
            .as_deref()
            .or(settings.chat_template.as_deref())
            .and_then(ToolStyle::of_template);
        let markers = tool_style
            .map_or(&[][..], ToolStyle::markers)
            .iter()
            .filter_map(|marker| Some((pieces.special_id(marker)?, *marker)))
            .collect();
        let begin_token = settings.begin_token.unwrap_or_default();
        let end_token = settings.end_token.unwrap_or_default();
        // A model whose template does not compile still serves plain prompts.
        let compile =
            |source: String| ChatTemplate::new(&source, begin_token.clone(), end_token.clone());
        let template = settings.chat_template.map(compile);
        let tool_template = settings.tool_template.map(compile);
        Self {
            encoder,
            around: Around::default(),
            longest_token_bytes: pieces.longest(),
            pieces,
            end_tokens,
            template,
            tool_template,
            tool_style,
            markers,
        }
    }

    /// A codec without a model: token ids 0 to 255 are bytes, 256 (`<|end|>` in a text) ends.
    pub fn byte_level() -> Self {
        let pieces = (0..=u8::MAX).map(|b| (u32::from(b), vec![b])).collect();
        let special = HashMap::from([(BYTE_LEVEL_END, BYTE_LEVEL_END_TEXT.to_owned())]);
        let settings = Settings {
            chat_template: Some(BYTE_LEVEL_TEMPLATE.to_owned()),
            end_token: Some(BYTE_LEVEL_END_TEXT.to_owned()),
            ..Settings::default()
        };
        // 257 ids are within the table's limit.
        let pieces = PieceTable::new(&pieces, special).unwrap_or_default();
        Self::with(Encoder::Bytes, pieces, settings)
    }

    /// The tokens of a plain prompt, with the begin token in front when the model has one
    /// there. Special tokens that the text spells out are recognised.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Diagnostic> {
        let mut ids = self.encode_with(text, true)?;
        let Around {
            begin, never_begin, ..
        } = self.around;
        if let Some(begin) = begin
            && ids.first() != Some(&begin)
        {
            ids.insert(0, begin);
        }
        if let Some(never) = never_begin
            && ids.first() == Some(&never)
            && !text.starts_with(&self.token_text(never))
        {
            ids.remove(0);
        }
        Ok(ids)
    }

    /// Puts the end token behind the tokens of a text that becomes a vector, when the model
    /// has one there.
    pub fn close(&self, ids: &mut Vec<u32>) {
        ids.extend(self.around.end.filter(|end| ids.last() != Some(end)));
    }

    /// Cuts the tokens of a text that becomes a vector, so that at most `most` are left and
    /// what belongs behind a text still is.
    pub fn cut(&self, ids: &mut Vec<u32>, most: usize) {
        if ids.len() <= most {
            return;
        }
        let mut behind = self.around.behind.clone();
        self.close(&mut behind);
        ids.truncate(most.saturating_sub(behind.len()));
        ids.extend(behind);
        ids.truncate(most);
    }

    /// How the model writes calls of tools; `None` when it has no place for tools or writes
    /// calls in a way that is not known here.
    pub fn tool_style(&self) -> Option<ToolStyle> {
        self.tool_style.filter(|_| self.shows_tools())
    }

    /// Whether the model is told of tools.
    pub fn shows_tools(&self) -> bool {
        let template = self.tool_template.as_ref().or(self.template.as_ref());
        matches!(template, Some(Ok(template)) if template.shows_tools())
    }

    /// Special tokens that mark calls of tools in the model's style, with their texts.
    pub fn markers(&self) -> &[(u32, &'static str)] {
        &self.markers
    }

    /// The text of a special token that marks calls of tools, which otherwise contributes
    /// nothing.
    pub fn marker(&self, id: u32) -> Option<&'static str> {
        let marker = self.markers.iter().find(|(token, _)| *token == id);
        marker.map(|(_, text)| *text)
    }

    /// The conversation as the text that the model is prompted with.
    ///
    /// Errors: `INVALID_REQUEST` when the template refuses the messages or there is none,
    /// `UNSUPPORTED_PARAMETER` when it would leave out tools, their calls or their results,
    /// `INVALID_MODEL_FILE` when the template is faulty or does not end.
    pub fn render_chat(
        &self,
        messages: &[Message],
        tools: &[ToolDefinition],
    ) -> Result<String, Diagnostic> {
        let with_tools = !tools.is_empty() || messages.iter().any(is_about_tools);
        let own = self.tool_template.as_ref().filter(|_| with_tools);
        match own.or(self.template.as_ref()) {
            Some(Ok(template)) if with_tools && !template.shows_tools() => Err(Diagnostic::new(
                Code::UnsupportedParameter,
                "the model's chat template has no place for tools",
            )
            .hint("leave the tools and their messages out, or use a model that was trained with tools")
            .param(if tools.is_empty() { "messages" } else { "tools" })),
            Some(Ok(template)) => template.render(messages, tools),
            Some(Err(error)) => Err(error.clone()),
            None => Err(Diagnostic::new(
                Code::InvalidRequest,
                "the model has no chat template",
            )
            .hint("send a plain prompt (`/v1/completions`), or use an instruction-tuned model")
            .param("messages")),
        }
    }

    /// The tokens of a conversation; the template itself writes begin tokens.
    pub fn encode_chat(
        &self,
        messages: &[Message],
        tools: &[ToolDefinition],
    ) -> Result<Vec<u32>, Diagnostic> {
        self.encode_with(&self.render_chat(messages, tools)?, false)
    }

    fn encode_with(&self, text: &str, surround: bool) -> Result<Vec<u32>, Diagnostic> {
        match &self.encoder {
            Encoder::Tokenizer(tokenizer) => tokenizer
                .encode_fast(text, surround)
                .map(|encoding| encoding.get_ids().to_vec())
                .map_err(|e| {
                    Diagnostic::new(
                        Code::InvalidRequest,
                        format!(
                            "the text cannot be split into tokens: {}",
                            excerpt(&e.to_string(), 300)
                        ),
                    )
                    .hint("shorten the text, above all long runs of spaces")
                }),
            Encoder::Bytes => {
                let mut ids = Vec::with_capacity(text.len());
                for (index, part) in text.split(BYTE_LEVEL_END_TEXT).enumerate() {
                    if index > 0 {
                        ids.push(BYTE_LEVEL_END);
                    }
                    ids.extend(part.bytes().map(u32::from));
                }
                Ok(ids)
            }
        }
    }

    /// The text of tokens; special tokens contribute nothing, bytes that are no UTF-8
    /// become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids
            .iter()
            .flat_map(|&id| self.token_bytes(id))
            .copied()
            .collect();
        let text = String::from_utf8_lossy(&bytes);
        match text.strip_prefix(' ') {
            Some(rest) if self.around.space => rest.to_owned(),
            _ => text.into_owned(),
        }
    }

    /// Exactly the bytes that a token contributes; a special token contributes none, nor
    /// does an id beyond the vocabulary.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.pieces.bytes(id)
    }

    /// Most bytes that one token stands for, special tokens by their names included.
    pub fn longest_token_bytes(&self) -> usize {
        self.longest_token_bytes
    }

    /// A token's text for a person: special tokens by name, other bytes as UTF-8 with
    /// U+FFFD for what is none alone.
    pub fn token_text(&self, id: u32) -> String {
        self.pieces.text(id)
    }

    /// Ids that end an answer, sorted.
    pub fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    /// Token ids that exist; a model may have more rows, for alignment.
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// Checks that the model can take every id that this codec makes.
    pub fn check_fits(&self, model_vocab_size: usize) -> Result<(), Diagnostic> {
        if self.vocab_size() > model_vocab_size {
            return Err(damaged(format!(
                "it has {} tokens, the model {model_vocab_size}",
                self.vocab_size()
            )));
        }
        if let Some(id) = self
            .end_tokens
            .iter()
            .find(|&&id| id as usize >= model_vocab_size)
        {
            return Err(damaged(format!(
                "its end token {id} is beyond the model's {model_vocab_size} tokens"
            )));
        }
        Ok(())
    }
}

/// Whether a message is a call of a tool or its result.
fn is_about_tools(message: &Message) -> bool {
    message.role == Role::Tool || !message.tool_calls.is_empty()
}
