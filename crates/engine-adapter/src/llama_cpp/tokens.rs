//! Converts inputs to tokens with the tokenizer and the chat template of the server.

use std::time::Duration;

use diagnostics::Diagnostic;
use inference_execution::requests::{
    draw_seed, dropped_note, empty_input, split_continuation, turn_starts, without_turns_before,
};
use rest_client::RestClient;
use serde_json::{Map, Value, json};
use worker_contract::{InferInput, InferRequest, Message, ToolDefinition};

use crate::{
    errors,
    facts::Facts,
    json::{text, token_ids},
    thinking::Thinking,
    values::{message, tool},
};

/// Time limit of short calls.
const LIMIT: Option<Duration> = Some(Duration::from_secs(30));
/// Bytes at the end of a prompt that contain the marks of reasoning, if there are any.
const END_BYTES: usize = 256;
/// Tokens of a prompt besides those of its text, at most: its begin and its end, and a space that
/// some tokenizers put before it.
const ADDED_TOKENS: usize = 8;

/// The tokenizer of the server, for a request.
pub(crate) struct Tokens<'a> {
    pub client: &'a RestClient,
    pub facts: &'a Facts,
    pub request: &'a InferRequest,
    /// Maximum number of output tokens, if the server may convert the prompt itself.
    pub output_limit: Option<u32>,
}

/// A prompt.
pub(crate) struct Encoded {
    pub prompt: Prompt,
    /// The end of its text, if it is that of a chat template.
    pub end: String,
}

/// What the server continues.
pub(crate) enum Prompt {
    /// A text which the server converts as the beginning of a prompt, in which control tokens have
    /// their meaning. It fits the context together with this maximum number of output tokens.
    Text(String, u32),
    Tokens(Vec<u32>),
}

/// A part of a prompt.
enum Part<'a> {
    /// Text in which control tokens have their meaning.
    Template(&'a str),
    /// Text that reaches the model as it is.
    Text(&'a str),
}

impl Tokens<'_> {
    /// Converts the input of the request to tokens.
    pub async fn prompt(
        &self,
        thinking: &Thinking,
        notes: &mut Vec<String>,
    ) -> Result<Encoded, Diagnostic> {
        let request = self.request;
        let (input, begun) = match (&request.input, request.continue_final_message) {
            (InferInput::Messages(messages), true) => split_continuation(messages)?,
            (input, _) => (std::borrow::Cow::Borrowed(input), ""),
        };
        let mut encoded = match &*input {
            InferInput::Tokens(tokens) => plain(Prompt::Tokens(tokens.clone())),
            InferInput::Prompt(prompt) => plain(self.start(prompt.clone()).await?),
            InferInput::Messages(messages) if request.drop_oldest_messages => {
                self.recent(messages, thinking, notes).await?
            }
            InferInput::Messages(messages) => self.chat(messages, thinking).await?,
        };
        if let Prompt::Tokens(tokens) = &mut encoded.prompt {
            if tokens.is_empty() {
                return Err(empty_input(&request.input));
            }
            tokens.splice(0..0, request.preceding_tokens.iter().copied());
            if !begun.is_empty() {
                tokens.extend(self.encode(begun, false, false).await?);
            }
        }
        Ok(encoded)
    }

    /// Converts the text at the beginning of the input, unless the server may do it. A text that
    /// fits even if each of its bytes is a token need not be counted.
    async fn start(&self, text: String) -> Result<Prompt, Diagnostic> {
        if let Some(max_tokens) = self.output_limit {
            let most = text.len() + ADDED_TOKENS + max_tokens as usize;
            if !text.is_empty() && most <= self.facts.context as usize {
                return Ok(Prompt::Text(text, max_tokens));
            }
        }
        let is_start = self.request.preceding_tokens.is_empty();
        Ok(Prompt::Tokens(self.encode(&text, is_start, true).await?))
    }

    /// Converts the input of `/v1/tokenize` to tokens.
    pub async fn only(
        &self,
        tools: &[ToolDefinition],
        thinking: &Thinking,
    ) -> Result<Vec<u32>, Diagnostic> {
        let tokens = match &self.request.input {
            InferInput::Messages(messages) if !tools.is_empty() => {
                let prompt = self.template(messages, tools, &thinking.variables).await?;
                self.encode(&prompt, true, true).await?
            }
            _ => match self.prompt(thinking, &mut Vec::new()).await?.prompt {
                Prompt::Tokens(tokens) => tokens,
                Prompt::Text(text, _) => self.encode(&text, true, true).await?,
            },
        };
        Ok(tokens)
    }

    /// Converts a conversation without as many of its oldest turns as necessary.
    async fn recent(
        &self,
        messages: &[Message],
        thinking: &Thinking,
        notes: &mut Vec<String>,
    ) -> Result<Encoded, Diagnostic> {
        let context = self.facts.context;
        let starts = turn_starts(messages);
        let fits = |encoded: &Encoded| match &encoded.prompt {
            Prompt::Text(..) => true,
            Prompt::Tokens(tokens) => tokens.len() < context as usize,
        };
        let all = self.chat(messages, thinking).await?;
        if fits(&all) || starts.len() < 2 {
            return Ok(all);
        }
        // The fewer turns, the fewer tokens: searches for the first start that fits, or the last.
        let (mut low, mut high) = (1, starts.len() - 1);
        let mut best = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let kept = without_turns_before(messages, starts[middle]);
            let encoded = self.chat(&kept, thinking).await?;
            if fits(&encoded) {
                high = middle;
                best = Some((encoded, kept.len()));
            } else {
                low = middle + 1;
            }
        }
        let (encoded, kept) = if let Some(best) = best {
            best
        } else {
            let kept = without_turns_before(messages, starts[low]);
            (self.chat(&kept, thinking).await?, kept.len())
        };
        notes.push(dropped_note(messages.len() - kept, messages.len(), context));
        Ok(encoded)
    }

    /// Converts a conversation. A text that spells a control token stays text.
    async fn chat(&self, messages: &[Message], thinking: &Thinking) -> Result<Encoded, Diagnostic> {
        let mut marked = messages.to_vec();
        let mut texts = Vec::new();
        let prefix = format!("content-{:x}-", draw_seed()?);
        for message in &mut marked {
            if self.spells_control_token(&message.content).await? {
                let mark = format!("{prefix}{};", texts.len());
                texts.push(std::mem::replace(&mut message.content, mark));
            }
        }
        let mut prompt = self.template(&marked, &[], &thinking.variables).await?;
        if let Some(format) = &self.facts.format
            && thinking.plan.close_in_prompt
            && format.start(&prompt) == reasoning::Start::Reasoning
        {
            prompt.push_str(format.closing());
        }
        let end = prompt.len().saturating_sub(END_BYTES);
        let end = prompt[prompt.ceil_char_boundary(end)..].to_owned();
        let prompt = if texts.is_empty() {
            self.start(prompt).await?
        } else {
            let is_start = self.request.preceding_tokens.is_empty();
            let parts = split(&prompt, &prefix, &texts);
            Prompt::Tokens(self.parts(&parts, is_start).await?)
        };
        Ok(Encoded { prompt, end })
    }

    async fn parts(&self, parts: &[Part<'_>], is_start: bool) -> Result<Vec<u32>, Diagnostic> {
        let mut tokens = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let (text, special) = match part {
                Part::Template(text) => (text, true),
                Part::Text(text) => (text, false),
            };
            let starts = is_start && index == 0;
            tokens.extend(self.encode(text, starts, special).await?);
        }
        Ok(tokens)
    }

    /// Whether the tokenizer would find a control token in the text. All known control tokens
    /// have one of these characters.
    async fn spells_control_token(&self, text: &str) -> Result<bool, Diagnostic> {
        if !text.contains(['<', '[', '\u{ff5c}']) {
            return Ok(false);
        }
        let (as_token, as_text) = tokio::try_join!(
            self.encode(text, false, true),
            self.encode(text, false, false)
        )?;
        Ok(as_token != as_text)
    }

    async fn template(
        &self,
        messages: &[Message],
        tools: &[ToolDefinition],
        variables: &Map<String, Value>,
    ) -> Result<String, Diagnostic> {
        let messages: Vec<Value> = messages.iter().map(message).collect();
        let mut body = json!({"messages": messages});
        if !tools.is_empty() {
            body["tools"] = tools.iter().map(tool).collect();
        }
        if !variables.is_empty() {
            body["chat_template_kwargs"] = json!(variables);
        }
        let answer: Value = self.client.post("/apply-template", &body, LIMIT).await?;
        Ok(text(&answer, "prompt"))
    }

    /// Converts a text. `starts` is whether it is the beginning of a prompt, `special` whether
    /// control tokens have their meaning.
    async fn encode(
        &self,
        text: &str,
        starts: bool,
        special: bool,
    ) -> Result<Vec<u32>, Diagnostic> {
        let body = json!({"content": text, "add_special": starts, "parse_special": special});
        let answer: Value = self.client.post("/tokenize", &body, LIMIT).await?;
        Ok(token_ids(&answer["tokens"]))
    }

    /// Converts tokens to text.
    pub async fn text(&self, tokens: &[u32]) -> Result<String, Diagnostic> {
        let body = json!({"tokens": tokens});
        let answer: Value = self.client.post("/detokenize", &body, LIMIT).await?;
        let text = answer["content"].as_str().map(str::to_owned);
        text.ok_or_else(|| errors::unexpected("no text of tokens"))
    }

    /// Whether a token is a control token, such as an end token.
    pub async fn is_control(&self, token: u32) -> Result<bool, Diagnostic> {
        let text = self.text(&[token]).await?;
        if text.is_empty() {
            return Ok(true);
        }
        let (as_text, as_token) = tokio::try_join!(
            self.encode(&text, false, false),
            self.encode(&text, false, true)
        )?;
        Ok(as_token == [token] && as_text != [token])
    }
}

fn plain(prompt: Prompt) -> Encoded {
    Encoded {
        prompt,
        end: String::new(),
    }
}

/// Splits a prompt at the marks `{prefix}{index};`, which stand for texts.
fn split<'a>(prompt: &'a str, prefix: &str, texts: &'a [String]) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    let mut pieces = prompt.split(prefix);
    parts.extend(pieces.next().map(Part::Template));
    for piece in pieces {
        let (index, rest) = piece.split_once(';').unwrap_or(("", piece));
        let text = index.parse::<usize>().ok().and_then(|i| texts.get(i));
        parts.extend(text.map(|text| Part::Text(text)));
        parts.push(Part::Template(rest));
    }
    parts
}

/// Returns the ids of the tokens that the server did not report before `last`, the token that
/// completed `text`. They are parts of characters, which the tokenizer finds in the text. Empty if
/// it finds other ones.
pub(crate) async fn lost_tokens(client: &RestClient, text: &str, last: u32) -> Vec<u32> {
    let body = json!({"content": text, "add_special": false, "parse_special": false,
        "with_pieces": true});
    let answer: Value = match client.post("/tokenize", &body, LIMIT).await {
        Ok(answer) => answer,
        Err(_) => return Vec::new(),
    };
    let pieces = answer["tokens"].as_array().cloned().unwrap_or_default();
    // Some tokenizers put a space before a text.
    let from = usize::from(
        pieces
            .first()
            .is_some_and(|piece| piece["piece"] == " " && !text.starts_with(' ')),
    );
    let ids: Vec<u32> = pieces[from..]
        .iter()
        .filter_map(|p| crate::json::count(&p["id"]))
        .collect();
    match ids.split_last() {
        Some((end, lost)) if *end == last => lost.to_vec(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_split_at_the_marks_of_its_texts() {
        let texts = ["first".to_owned(), "second".to_owned()];
        let parts = split("<u>m-0;<e><a>m-1;m-7;", "m-", &texts);
        let shown: Vec<String> = parts
            .iter()
            .map(|part| match part {
                Part::Template(text) => format!("T{text}"),
                Part::Text(text) => format!("X{text}"),
            })
            .collect();
        assert_eq!(shown, ["T<u>", "Xfirst", "T<e><a>", "Xsecond", "T", "T"]);
    }
}
