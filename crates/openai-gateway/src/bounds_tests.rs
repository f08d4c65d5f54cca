//! The bounds in the OpenAPI document are those that parsing enforces.

use diagnostics::Diagnostic;
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema as _, ToSchema};
use worker_contract::limits::{MAX_STOP_SEQUENCE_BYTES, MAX_STOP_SEQUENCES};

use crate::{
    anthropic::{self, AnthropicRequest},
    embed::MAX_INPUTS,
    ollama::{
        self, OllamaChatRequest, OllamaEmbedRequest, OllamaEndpoint, OllamaOptions,
        ParsedOllamaEmbedRequest,
    },
    openai::{
        self, ChatRequest, CompletionRequest, EmbeddingsRequest, OpenAiEndpoint,
        ParsedEmbeddingsRequest,
    },
    responses::{self, ResponsesRequest},
    schemas::{EmbeddingsInput, StopSequences},
    testing::context,
};

type Parse = fn(&Value) -> Result<(), Diagnostic>;

fn chat(body: &Value) -> Result<(), Diagnostic> {
    openai::parse(OpenAiEndpoint::ChatCompletions, body, &context()).map(drop)
}

fn completion(body: &Value) -> Result<(), Diagnostic> {
    openai::parse(OpenAiEndpoint::Completions, body, &context()).map(drop)
}

fn ollama_chat(body: &Value) -> Result<(), Diagnostic> {
    ollama::parse(OllamaEndpoint::Chat, body, &context()).map(drop)
}

fn ollama_options(options: &Value) -> Result<(), Diagnostic> {
    ollama_chat(&json!({"model": "m", "options": options}))
}

fn message(body: &Value) -> Result<(), Diagnostic> {
    anthropic::parse(body, &context()).map(drop)
}

fn response(body: &Value) -> Result<(), Diagnostic> {
    responses::parse(body, &context()).map(drop)
}

fn embeddings(body: &Value) -> Result<(), Diagnostic> {
    ParsedEmbeddingsRequest::parse(body).map(drop)
}

fn ollama_embed(body: &Value) -> Result<(), Diagnostic> {
    ParsedOllamaEmbedRequest::parse(body).map(drop)
}

/// The properties of a schema and of the schemas that it consists of.
fn properties<T: ToSchema>() -> Map<String, Value> {
    fn collect(schema: &Value, named: &Map<String, Value>, into: &mut Map<String, Value>) {
        let own = schema["properties"].as_object().cloned();
        into.extend(own.unwrap_or_default());
        for part in schema["allOf"].as_array().into_iter().flatten() {
            let name = part["$ref"].as_str().and_then(|r| r.rsplit('/').next());
            collect(name.map_or(part, |name| &named[name]), named, into);
        }
    }
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    let named = parts
        .into_iter()
        .map(|(name, schema)| (name, json!(schema)));
    let mut found = Map::new();
    collect(&json!(T::schema()), &named.collect(), &mut found);
    found
}

#[test]
fn numbers_are_accepted_within_the_documented_bounds_only() {
    let messages = json!([{"role": "user", "content": "x"}]);
    let logprobs = json!({"model": "m", "messages": messages, "logprobs": true});
    let cases: [(&str, Map<String, Value>, Value, Parse); 8] = [
        ("chat", properties::<ChatRequest>(), logprobs.clone(), chat),
        (
            "completion",
            properties::<CompletionRequest>(),
            json!({"model": "m", "prompt": "x"}),
            completion,
        ),
        (
            "embeddings",
            properties::<EmbeddingsRequest>(),
            json!({"model": "m", "input": "x"}),
            embeddings,
        ),
        (
            "Ollama's chat",
            properties::<OllamaChatRequest>(),
            logprobs,
            ollama_chat,
        ),
        (
            "Ollama's options",
            properties::<OllamaOptions>(),
            json!({}),
            ollama_options,
        ),
        (
            "Ollama's embed",
            properties::<OllamaEmbedRequest>(),
            json!({"model": "m", "input": "x"}),
            ollama_embed,
        ),
        (
            "responses",
            properties::<ResponsesRequest>(),
            json!({"model": "m", "input": "x"}),
            response,
        ),
        (
            "messages",
            properties::<AnthropicRequest>(),
            json!({"model": "m", "messages": messages, "max_tokens": 1}),
            message,
        ),
    ];
    let mut bounds = 0;
    for (name, fields, body, parse) in cases {
        for (field, schema) in fields {
            let accepts = |value: Value| {
                let mut body = body.clone();
                body[&field] = value;
                parse(&body).is_ok()
            };
            for (bound, outwards) in [(&schema["minimum"], -1_i64), (&schema["maximum"], 1)] {
                let outside = match (bound.as_i64(), bound.as_f64()) {
                    _ if bound.is_null() => continue,
                    (Some(bound), _) => json!(bound + outwards),
                    (None, Some(bound)) => json!(bound + 0.001 * outwards as f64),
                    (None, None) => panic!("{name}: {field}: {bound}"),
                };
                assert!(accepts(bound.clone()), "{name}: {field}: {bound}");
                assert!(!accepts(outside.clone()), "{name}: {field}: {outside}");
                bounds += 1;
            }
        }
    }
    assert!(bounds > 50, "{bounds}");
}

#[test]
fn strings_and_arrays_are_accepted_within_the_documented_lengths_only() {
    let stop = serde_json::to_value(StopSequences::schema()).unwrap();
    let [one, several] = [&stop["anyOf"][0], &stop["anyOf"][1]];
    assert_eq!(one["maxLength"], MAX_STOP_SEQUENCE_BYTES);
    assert_eq!(several["maxItems"], MAX_STOP_SEQUENCES);
    let accepts = |stop: Value| {
        let body = json!({"model": "m", "prompt": "x", "stop": stop});
        completion(&body).is_ok()
    };
    assert!(accepts(json!("x".repeat(MAX_STOP_SEQUENCE_BYTES))));
    assert!(!accepts(json!("x".repeat(MAX_STOP_SEQUENCE_BYTES + 1))));
    assert!(accepts(json!("")));
    assert!(!accepts(json!([""])));
    assert!(accepts(json!(vec!["x"; MAX_STOP_SEQUENCES])));
    assert!(!accepts(json!(vec!["x"; MAX_STOP_SEQUENCES + 1])));

    let inputs = serde_json::to_value(EmbeddingsInput::schema()).unwrap();
    assert_eq!(inputs["anyOf"][2]["maxItems"], MAX_INPUTS);
    let accepts = |input: Value| embeddings(&json!({"model": "m", "input": input})).is_ok();
    assert!(accepts(json!(vec!["x"; MAX_INPUTS])));
    assert!(!accepts(json!(vec!["x"; MAX_INPUTS + 1])));
    assert!(!accepts(json!([])));

    let tools = &properties::<ChatRequest>()["tools"];
    let with_tools = |count: u64| {
        let tool = |i| json!({"type": "function", "function": {"name": format!("f{i}")}});
        let tools: Vec<Value> = (0..count).map(tool).collect();
        let messages = json!([{"role": "user", "content": "x"}]);
        chat(&json!({"model": "m", "messages": messages, "tools": tools})).is_ok()
    };
    let max = tools["maxItems"].as_u64().unwrap();
    assert!(with_tools(max) && !with_tools(max + 1));
}
