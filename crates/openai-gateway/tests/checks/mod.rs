//! Properties of any body that a client may send.

use diagnostics::{Code, Diagnostic, escape};
use openai_gateway::{
    ParsedRequest, RequestContext, anthropic,
    ollama::{self, OllamaEndpoint, ParsedOllamaEmbedRequest},
    openai::{self, OpenAiEndpoint, ParsedEmbeddingsRequest},
    responses,
};
use serde_json::Value;
use worker_contract::{EmbedRequest, InferInput, InferRequest};

pub const WORDS: &[&str] = &[
    "null",
    "-1",
    "0",
    "1e999",
    "1.5",
    "4294967296",
    "18446744073709551616",
    "{}",
    "[]",
    "[[[[",
    "\"\"",
    "\"\\ud83d\"",
    "\"\\u0000\"",
    "true",
    "\"role\":\"tool\",",
    "\"content\":null,",
    "\"content\":[{\"type\":\"image_url\"}],",
    "\"n\":99,",
    "\"temperature\":\"hot\",",
    "\"logit_bias\":{\"-1\":1e9},",
    "\"tools\":[{}],",
    "\"tool_choice\":{},",
    "\"stop\":[1],",
    "\"messages\":[],",
    "\"prompt\":[[1,2]],",
    "\"response_format\":{\"type\":7},",
    "\"type\":\"tool_use\",",
    "\"type\":\"tool_result\",",
    "\"keep_alive\":0,",
    "\"options\":{\"top_k\":-5},",
    "\"format\":\"xml\",",
    "\"input\":[[]],",
    "\"max_tokens\":0,",
    "\"max_output_tokens\":0,",
    "\"type\":\"reasoning\",",
    "\"type\":\"function_call\",",
    "\"type\":\"item_reference\",",
    "\"previous_response_id\":\"r\",",
    ",",
];

/// Endpoint with a JSON body; each has a corpus of its name.
#[derive(Debug, Clone, Copy)]
pub enum Endpoint {
    Chat,
    Completion,
    Embeddings,
    OllamaChat,
    OllamaGenerate,
    OllamaEmbed,
    Messages,
    Responses,
}

/// Part of a parsed body that is sent to a worker.
pub enum Parsed {
    Infer(Box<InferRequest>),
    Embed(Vec<InferInput>),
}

impl Endpoint {
    pub const ALL: [Self; 8] = [
        Self::Chat,
        Self::Completion,
        Self::Embeddings,
        Self::OllamaChat,
        Self::OllamaGenerate,
        Self::OllamaEmbed,
        Self::Messages,
        Self::Responses,
    ];

    /// Returns the name of the endpoint's corpus.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completion => "completion",
            Self::Embeddings => "embeddings",
            Self::OllamaChat => "ollama-chat",
            Self::OllamaGenerate => "ollama-generate",
            Self::OllamaEmbed => "ollama-embed",
            Self::Messages => "messages",
            Self::Responses => "responses",
        }
    }

    /// Parses a body with every parser of the endpoint.
    pub fn parse(self, body: &Value) -> Vec<Result<Parsed, Diagnostic>> {
        let context = RequestContext {
            request_id: "r".parse().unwrap(),
            received_at: "1970-01-01T00:00:00Z".parse().unwrap(),
            system_fingerprint: "fp",
        };
        let infer = |parsed: ParsedRequest| Parsed::Infer(Box::new(parsed.request));
        let openai = |endpoint| vec![openai::parse(endpoint, body, &context).map(infer)];
        let ollama = |endpoint| vec![ollama::parse(endpoint, body, &context).map(infer)];
        let ollama_embed = |parsed: ParsedOllamaEmbedRequest| Parsed::Embed(parsed.inputs);
        match self {
            Self::Chat => openai(OpenAiEndpoint::ChatCompletions),
            Self::Completion => openai(OpenAiEndpoint::Completions),
            Self::Embeddings => vec![
                ParsedEmbeddingsRequest::parse(body).map(|parsed| Parsed::Embed(parsed.inputs)),
            ],
            Self::OllamaChat => ollama(OllamaEndpoint::Chat),
            Self::OllamaGenerate => ollama(OllamaEndpoint::Generate),
            Self::OllamaEmbed => vec![
                ParsedOllamaEmbedRequest::parse(body).map(ollama_embed),
                ParsedOllamaEmbedRequest::parse_superseded(body).map(ollama_embed),
            ],
            Self::Responses => vec![
                responses::parse(body, &context).map(infer),
                responses::parse_token_count(body)
                    .map(|count| Parsed::Embed(vec![count.request.input])),
            ],
            Self::Messages => vec![
                anthropic::parse(body, &context).map(infer),
                anthropic::parse_token_count(body)
                    .map(|count| Parsed::Embed(vec![count.request.input])),
            ],
        }
    }
}

/// Asserts that a worker reads the parsed request unchanged, and that a refusal blames the
/// client with a text that is safe to print.
pub fn check(endpoint: Endpoint, body: &Value) {
    for parsed in endpoint.parse(body) {
        match parsed {
            Ok(Parsed::Infer(request)) => {
                let sent = serde_json::to_string(&request).unwrap();
                let read: InferRequest = serde_json::from_str(&sent).unwrap();
                assert_eq!(*request, read);
            }
            Ok(Parsed::Embed(inputs)) => {
                let request = EmbedRequest {
                    request_id: "r".parse().unwrap(),
                    inputs,
                    truncate: false,
                    deadline: None,
                };
                let sent = serde_json::to_string(&request).unwrap();
                let read: EmbedRequest = serde_json::from_str(&sent).unwrap();
                assert_eq!(request, read);
            }
            Err(error) => {
                let client_errors = [Code::InvalidRequest, Code::UnsupportedParameter];
                assert!(client_errors.contains(&error.code), "{error:?}");
                let hint = error.hint.as_deref().unwrap_or_default();
                let param = error.param.as_deref().unwrap_or_default();
                for text in [&*error.message, hint, param] {
                    assert_eq!(text, escape(text), "{error:?}");
                    assert!(text.len() < 2000, "{error:?}");
                }
            }
        }
    }
}
