use diagnostics::Code;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::any_json;

fn worker_response(vectors: Vec<Vec<f32>>) -> EmbedResponse {
    EmbedResponse {
        request_id: "r1".parse().unwrap(),
        model: "builtin:haiku".parse().unwrap(),
        vectors,
        prompt_tokens: 5,
    }
}

fn parse(more: &Value) -> Result<ParsedEmbeddingsRequest, Diagnostic> {
    let mut body = json!({"model": "m", "input": "hi"});
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    ParsedEmbeddingsRequest::parse(&body)
}

#[test]
fn an_input_is_texts_or_token_ids() {
    let text = |text: &str| InferInput::Prompt(text.into());
    for (input, expected) in [
        (json!("a"), vec![text("a")]),
        (json!(["a", "b"]), vec![text("a"), text("b")]),
        (json!([1, 2]), vec![InferInput::Tokens(vec![1, 2])]),
        (
            json!([[1], [2, 3]]),
            vec![InferInput::Tokens(vec![1]), InferInput::Tokens(vec![2, 3])],
        ),
    ] {
        assert_eq!(parse(&json!({"input": input})).unwrap().inputs, expected);
    }
    for wrong in [
        json!([]),
        json!([[]]),
        json!(7),
        json!([-1]),
        json!([1.5]),
        json!({}),
        json!(["a", {}]),
        json!(vec!["a"; 2049]),
    ] {
        let error = parse(&json!({"input": wrong})).unwrap_err();
        assert_eq!(
            (error.code, error.param.as_deref()),
            (Code::InvalidRequest, Some("input")),
            "{error}"
        );
    }
    for (field, wrong) in [
        ("encoding_format", json!("hex")),
        ("dimensions", json!(0)),
        ("model", json!(1)),
    ] {
        let error = parse(&json!({field: wrong})).unwrap_err();
        assert_eq!(
            (error.code, error.param.as_deref()),
            (Code::InvalidRequest, Some(field))
        );
    }
}

#[test]
fn a_response_has_openais_format() {
    let vectors = vec![vec![0.6, 0.8, 0.0], vec![0.0, 0.0, 1.0]];
    let response = parse(&json!({}))
        .unwrap()
        .into_response(worker_response(vectors.clone()));
    assert_eq!(
        serde_json::to_value(response.unwrap()).unwrap(),
        json!({"object": "list", "model": "m", "usage": {"prompt_tokens": 5, "total_tokens": 5},
            "data": [{"object": "embedding", "index": 0, "embedding": vectors[0]},
                {"object": "embedding", "index": 1, "embedding": vectors[1]}]})
    );
    let base64 = parse(&json!({"encoding_format": "base64"})).unwrap();
    let response = base64
        .into_response(worker_response(vec![vec![1.0, -2.0]]))
        .unwrap();
    assert_eq!(
        response.data[0].embedding,
        EmbeddingVector::Base64("AACAPwAAAMA=".into())
    );
}

#[test]
fn truncated_vectors_are_normalized() {
    let short = parse(&json!({"dimensions": 2})).unwrap();
    let vectors = vec![vec![0.3, 0.4, 0.9], vec![0.0, 0.0, 1.0]];
    let response = short
        .clone()
        .into_response(worker_response(vectors))
        .unwrap();
    assert_eq!(
        response.data[0].embedding,
        EmbeddingVector::Float(vec![0.6, 0.8])
    );
    assert_eq!(
        response.data[1].embedding,
        EmbeddingVector::Float(vec![0.0, 0.0])
    );
    let error = short
        .into_response(worker_response(vec![vec![1.0]]))
        .unwrap_err();
    assert_eq!(
        (error.code, error.param.as_deref(), error.message.as_str()),
        (
            Code::InvalidRequest,
            Some("dimensions"),
            "`dimensions` is 2, but the model's vectors have length 1"
        )
    );
}

proptest! {
    #[test]
    fn any_value_is_parsed_or_is_an_invalid_request(
        field in prop::sample::select(vec!["model", "input", "encoding_format", "dimensions", "user"]),
        value in any_json(),
    ) {
        if let Err(error) = parse(&json!({field: value})) {
            prop_assert_eq!(error.code, Code::InvalidRequest);
        }
    }
}
