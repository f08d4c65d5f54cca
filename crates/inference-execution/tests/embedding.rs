//! Requests for embeddings with the mock engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

use std::{sync::Arc, time::Duration};

use diagnostics::Code;
use inference_execution::{
    Runtime, RuntimeConfig,
    mock::{MockEngine, MockSettings},
};
use input_validation::ModelRef;
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};
use text_codec::{Codec, CodecSettings};
use tokio::time::timeout;
use worker_contract::{EmbedRequest, InferInput, InferRequest, StreamEvent};

/// Much longer than any test takes; exceeded only by a hang.
const HANG: Duration = Duration::from_secs(20);

fn runtime(settings: &str, slots: u32) -> Runtime {
    runtime_with(Codec::byte_level(), settings, slots)
}

fn runtime_with(codec: Codec, settings: &str, slots: u32) -> Runtime {
    let model: ModelRef = format!("mock:{settings}").parse().unwrap();
    let ModelRef::Mock(text) = &model else {
        panic!("{model}")
    };
    let settings: MockSettings = text.parse().unwrap();
    let config = RuntimeConfig {
        token_budget: 8,
        ..RuntimeConfig::new(model, slots)
    };
    let engine = Box::new(MockEngine::new(settings));
    Runtime::start(engine, Arc::new(codec), config).unwrap()
}

fn texts(id: &str, texts: &[&str]) -> EmbedRequest {
    EmbedRequest {
        request_id: id.parse().unwrap(),
        inputs: texts
            .iter()
            .map(|t| InferInput::Prompt((*t).into()))
            .collect(),
        truncate: false,
        deadline: None,
    }
}

async fn vectors(runtime: &Runtime, request: &EmbedRequest) -> Vec<Vec<f32>> {
    let mut reply = runtime.embed(request).unwrap();
    timeout(HANG, reply.vectors()).await.unwrap().unwrap()
}

#[tokio::test]
async fn batching_does_not_change_the_embedding() {
    let long = "a text of many more tokens than fit into one step, so that it comes in chunks";
    let all = ["one", "two", long, "x", "seven and more"];
    let mut alone = Vec::new();
    for text in all {
        alone.extend(vectors(&runtime("slots=4", 4), &texts("r", &[text])).await);
    }
    for vector in &alone {
        let length: f32 = vector.iter().map(|n| n * n).sum();
        assert!((length - 1.0).abs() < 1e-5, "{vector:?}");
    }
    assert_ne!(alone[0], alone[1]);
    // A KV cache of 112 tokens has seven blocks, of which the long text needs five.
    for settings in ["slots=1", "slots=4", "slots=4,kv=112"] {
        let runtime = runtime(settings, 4);
        assert_eq!(
            vectors(&runtime, &texts("r", &all)).await,
            alone,
            "{settings}"
        );
        let status = runtime.status();
        assert_eq!(
            (status.slots_free, status.kv_cache.used),
            (4, 0),
            "{settings}"
        );
    }
}

#[tokio::test]
async fn many_inputs_take_one_slot_and_do_not_delay_others() {
    // The embeddings take more than 20 s, the other request less than a second.
    let slow = runtime("slots=2,length=5,tokens_per_second=100", 2);
    let embeddings = slow
        .embed(&texts("many", &vec!["some text"; 2000]))
        .unwrap();
    assert_eq!(slow.status().slots_free, 1);
    let request = InferRequest::new("r".parse().unwrap(), InferInput::Prompt("hello".into()));
    let mut stream = slow.submit(request).unwrap();
    loop {
        let event = timeout(HANG, stream.recv()).await.unwrap().unwrap();
        if let StreamEvent::End(_) = event {
            break;
        }
        assert!(!event.is_terminal(), "{event:?}");
    }
    let (counts, status) = (slow.counts(), slow.status());
    assert_eq!((counts.completed, status.slots_free), (1, 1));
    drop(embeddings);
}

#[tokio::test]
async fn all_inputs_are_embedded() {
    let runtime = runtime("slots=2", 2);
    let mut reply = runtime.embed(&texts("many", &["some text"; 200])).unwrap();
    let vectors = timeout(HANG, reply.vectors()).await.unwrap().unwrap();
    assert_eq!(vectors.len(), 200);
    assert!(vectors.iter().all(|vector| *vector == vectors[0]));
    assert_eq!(reply.prompt_tokens(), 200 * 9);
    assert_eq!(runtime.counts().completed, 1);
}

#[tokio::test]
async fn request_ends_by_cancellation_deadline_disconnect_and_fault() {
    let slow = "slots=1,tokens_per_second=20";
    let many = vec!["some text"; 2000];
    let slow_runtime = runtime(slow, 1);
    let mut reply = slow_runtime.embed(&texts("a", &many)).unwrap();
    assert!(slow_runtime.cancel(&"a".parse().unwrap()));
    let error = timeout(HANG, reply.vectors()).await.unwrap().unwrap_err();
    assert_eq!(error.code, Code::Cancelled);

    let mut soon = texts("b", &many);
    soon.deadline = Some(Timestamp::now() + 150.milliseconds());
    let mut reply = slow_runtime.embed(&soon).unwrap();
    let error = timeout(HANG, reply.vectors()).await.unwrap().unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded);

    drop(slow_runtime.embed(&texts("c", &many)).unwrap());
    timeout(HANG, slow_runtime.idle()).await.unwrap();
    let status = slow_runtime.status();
    assert_eq!((status.slots_free, status.kv_cache.used), (1, 0));

    let mut reply = runtime("slots=1,fail=step", 1)
        .embed(&texts("d", &many))
        .unwrap();
    let error = timeout(HANG, reply.vectors()).await.unwrap().unwrap_err();
    assert_eq!(error.code, Code::Internal);
    let mut reply = runtime("slots=1,fail=panic", 1)
        .embed(&texts("e", &many))
        .unwrap();
    let error = timeout(HANG, reply.vectors()).await.unwrap().unwrap_err();
    assert_eq!(
        error.message,
        "the engine panicked: requested by the mock engine's settings"
    );
}

#[test]
fn invalid_inputs_are_refused() {
    let runtime = runtime("slots=1,context=64", 1);
    for (request, code) in [
        (texts("a", &[]), Code::InvalidRequest),
        (texts("b", &["x", ""]), Code::InvalidRequest),
        (
            texts("c", &["x", &"y".repeat(65)]),
            Code::ContextLengthExceeded,
        ),
    ] {
        let error = runtime.embed(&request).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.correlation_id.is_some());
    }
    assert!(runtime.embed(&texts("d", &[&"y".repeat(64)])).is_ok());
}

/// A truncated input has the embedding of its start, however long it is.
#[tokio::test]
async fn inputs_are_truncated_on_request() {
    let runtime = runtime("slots=1,context=64", 1);
    let truncated = |id: &str, inputs: Vec<InferInput>| EmbedRequest {
        inputs,
        truncate: true,
        ..texts(id, &[])
    };
    let fits = "y".repeat(63) + "z";
    let expected = vectors(&runtime, &texts("a", &[&fits])).await;
    for more in ["", "x", &"x".repeat(100_000)] {
        let text = InferInput::Prompt(fits.clone() + more);
        assert_eq!(
            vectors(&runtime, &truncated("b", vec![text])).await,
            expected
        );
    }
    let ids = (fits.clone() + "xx").bytes().map(u32::from).collect();
    let tokens = truncated("c", vec![InferInput::Tokens(ids)]);
    assert_eq!(vectors(&runtime, &tokens).await, expected);
    // The text is not cut inside a character.
    let wide = InferInput::Prompt("€".repeat(100_000));
    let mut reply = runtime.embed(&truncated("d", vec![wide])).unwrap();
    assert_eq!(reply.prompt_tokens(), 64);
    reply.vectors().await.unwrap();
    let empty = truncated("e", vec![InferInput::Prompt(String::new())]);
    let error = runtime.embed(&empty).unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest);
}

#[tokio::test]
async fn truncated_text_keeps_its_end_token() {
    for codec in [ending_codec(), codec_with(&surrounding(), false)] {
        let runtime = runtime_with(codec, "slots=1,context=4", 1);
        let long = EmbedRequest {
            truncate: true,
            ..texts("a", &["aaaaaaaa"])
        };
        let tokens = EmbedRequest {
            inputs: vec![InferInput::Tokens(vec![0, 0, 0, 1])],
            ..texts("b", &[])
        };
        assert_eq!(
            vectors(&runtime, &long).await,
            vectors(&runtime, &tokens).await
        );
    }
}

/// A codec with one letter that appends an end token to texts for embeddings.
fn ending_codec() -> Codec {
    codec_with(&Value::Null, true)
}

/// A post-processor that appends the end token itself.
fn surrounding() -> Value {
    json!({
        "type": "TemplateProcessing", "pair": [],
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
    })
}

fn codec_with(post_processor: &Value, adds_end: bool) -> Codec {
    let end = json!({"id": 1, "content": "</s>", "special": true, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false});
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
    let tokenizer = json!({
        "added_tokens": [end], "pre_tokenizer": byte_level, "decoder": byte_level,
        "post_processor": post_processor,
        "model": {"type": "BPE", "vocab": {"a": 0, "</s>": 1}, "merges": []},
    });
    let settings = CodecSettings {
        eos_token: Some("</s>".into()),
        add_eos: adds_end,
        ..CodecSettings::default()
    };
    Codec::from_tokenizer_json(tokenizer.to_string().as_bytes(), settings).unwrap()
}

#[test]
fn end_token_is_appended_to_texts_but_not_to_tokens() {
    let runtime = runtime_with(ending_codec(), "slots=2", 2);
    let text = texts("a", &["aa"]);
    assert_eq!(runtime.embed(&text).unwrap().prompt_tokens(), 3);
    let tokens = EmbedRequest {
        inputs: vec![InferInput::Tokens(vec![0, 0])],
        ..texts("b", &[])
    };
    assert_eq!(runtime.embed(&tokens).unwrap().prompt_tokens(), 2);
}
