use diagnostics::Code;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::any_json;

fn response(vectors: Vec<Vec<f32>>) -> EmbedResponse {
    EmbedResponse {
        request_id: "r1".parse().unwrap(),
        model: "builtin:haiku".parse().unwrap(),
        vectors,
        prompt_tokens: 5,
    }
}

fn call(more: &Value) -> Result<EmbeddingsCall, Diagnostic> {
    let mut body = json!({"model": "m", "input": "hi"});
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    EmbeddingsCall::parse(&body)
}

#[test]
fn the_forms_of_an_input() {
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
        assert_eq!(call(&json!({"input": input})).unwrap().inputs, expected);
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
        let error = call(&json!({"input": wrong})).unwrap_err();
        assert_eq!(
            (error.code, error.param.as_deref()),
            (Code::InvalidRequest, Some("input"))
        );
    }
    for (field, wrong) in [
        ("encoding_format", json!("hex")),
        ("dimensions", json!(0)),
        ("model", json!(1)),
    ] {
        let error = call(&json!({field: wrong})).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(field));
    }
}

#[test]
fn an_answer_is_what_openai_sends() {
    let vectors = vec![vec![0.6, 0.8, 0.0], vec![0.0, 0.0, 1.0]];
    let answer = call(&json!({})).unwrap().answer(response(vectors.clone()));
    assert_eq!(
        serde_json::to_value(answer.unwrap()).unwrap(),
        json!({"object": "list", "model": "m", "usage": {"prompt_tokens": 5, "total_tokens": 5},
            "data": [{"object": "embedding", "index": 0, "embedding": vectors[0]},
                {"object": "embedding", "index": 1, "embedding": vectors[1]}]})
    );
    let base64 = call(&json!({"encoding_format": "base64"})).unwrap();
    let answer = base64.answer(response(vec![vec![1.0, -2.0]])).unwrap();
    assert_eq!(
        answer.data[0].embedding,
        Numbers::Base64("AACAPwAAAMA=".into())
    );
}

#[test]
fn fewer_dimensions_have_length_one_again() {
    let short = call(&json!({"dimensions": 2})).unwrap();
    let vectors = vec![vec![0.3, 0.4, 0.9], vec![0.0, 0.0, 1.0]];
    let answer = short.clone().answer(response(vectors)).unwrap();
    assert_eq!(answer.data[0].embedding, Numbers::Float(vec![0.6, 0.8]));
    assert_eq!(answer.data[1].embedding, Numbers::Float(vec![0.0, 0.0]));
    let error = short.answer(response(vec![vec![1.0]])).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("dimensions"));
}

proptest! {
    #[test]
    fn any_value_is_understood_or_refused_as_the_clients_fault(
        field in prop::sample::select(vec!["model", "input", "encoding_format", "dimensions", "user"]),
        value in any_json(),
    ) {
        if let Err(error) = call(&json!({field: value})) {
            prop_assert_eq!(error.code, Code::InvalidRequest);
        }
    }
}
