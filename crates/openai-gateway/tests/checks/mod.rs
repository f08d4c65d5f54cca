//! What holds for whatever a client sends.

use diagnostics::{Code, Diagnostic, escape};
use openai_gateway::{
    Asked, Call, Edge, EmbeddingsCall, anthropic,
    ollama::{self, OllamaEdge, OllamaEmbedCall},
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
    ",",
];

/// Where a body comes in; each has a corpus of its name.
#[derive(Debug, Clone, Copy)]
pub enum Endpoint {
    Chat,
    Completion,
    Embeddings,
    OllamaChat,
    OllamaGenerate,
    OllamaEmbed,
    Messages,
}

/// What a worker is asked.
pub enum Understood {
    Infer(Box<InferRequest>),
    Embed(Vec<InferInput>),
}

impl Endpoint {
    pub const ALL: [Self; 7] = [
        Self::Chat,
        Self::Completion,
        Self::Embeddings,
        Self::OllamaChat,
        Self::OllamaGenerate,
        Self::OllamaEmbed,
        Self::Messages,
    ];

    /// The name of its corpus.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completion => "completion",
            Self::Embeddings => "embeddings",
            Self::OllamaChat => "ollama-chat",
            Self::OllamaGenerate => "ollama-generate",
            Self::OllamaEmbed => "ollama-embed",
            Self::Messages => "messages",
        }
    }

    pub fn read(self, body: &Value) -> Vec<Result<Understood, Diagnostic>> {
        let id = || "r".parse().unwrap();
        let call = |call: Call| Understood::Infer(Box::new(call.into_request(id(), None)));
        let asked = |asked: Asked| Understood::Infer(Box::new(asked.request));
        let ollama = |edge| {
            let read = ollama::parse(edge, body, id());
            vec![read.map(|(read, _)| asked(read))]
        };
        let embed = |call: OllamaEmbedCall| Understood::Embed(call.inputs);
        match self {
            Self::Chat => vec![Call::parse(Edge::Chat, body).map(call)],
            Self::Completion => vec![Call::parse(Edge::Completion, body).map(call)],
            Self::Embeddings => {
                vec![EmbeddingsCall::parse(body).map(|call| Understood::Embed(call.inputs))]
            }
            Self::OllamaChat => ollama(OllamaEdge::Chat),
            Self::OllamaGenerate => ollama(OllamaEdge::Generate),
            Self::OllamaEmbed => vec![
                OllamaEmbedCall::parse(body).map(embed),
                OllamaEmbedCall::parse_older(body).map(embed),
            ],
            Self::Messages => vec![
                anthropic::parse(body, id()).map(asked),
                anthropic::parse_count(body).map(|(_, count)| Understood::Embed(vec![count.input])),
            ],
        }
    }
}

/// A worker reads what the queen understood as the queen meant it; a refusal blames the client
/// in words that are safe to print.
pub fn check(endpoint: Endpoint, body: &Value) {
    for read in endpoint.read(body) {
        match read {
            Ok(Understood::Infer(request)) => {
                let sent = serde_json::to_string(&request).unwrap();
                let read: InferRequest = serde_json::from_str(&sent).unwrap();
                assert_eq!(*request, read);
            }
            Ok(Understood::Embed(inputs)) => {
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
                let of_client = [Code::InvalidRequest, Code::UnsupportedParameter];
                assert!(of_client.contains(&error.code), "{error:?}");
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
