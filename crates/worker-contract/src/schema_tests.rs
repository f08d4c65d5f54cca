//! The bounds in the OpenAPI documents are the limits that workers enforce.

use std::ops::RangeInclusive;

use serde_json::{Value, json};
use utoipa::PartialSchema;

use crate::{EmbedRequest, InferRequest, SamplingValues, limits};

fn property<T: PartialSchema>(name: &str) -> Value {
    let schema = serde_json::to_value(T::schema()).unwrap();
    schema["properties"][name].clone()
}

#[test]
fn documented_bounds_are_the_limits() {
    let bounds = |name: &str, range: &RangeInclusive<f64>| {
        let property = property::<SamplingValues>(name);
        let documented = (property["minimum"].as_f64(), property["maximum"].as_f64());
        assert_eq!(
            documented,
            (Some(*range.start()), Some(*range.end())),
            "{name}"
        );
    };
    bounds("temperature", &limits::TEMPERATURE);
    bounds("top_p", &limits::PROBABILITY);
    bounds("min_p", &limits::PROBABILITY);
    bounds("typical_p", &limits::PROBABILITY);
    bounds("repetition_penalty", &limits::REPETITION_PENALTY);
    bounds("frequency_penalty", &limits::ADDITIVE_PENALTY);
    bounds("presence_penalty", &limits::ADDITIVE_PENALTY);

    let stop = property::<InferRequest>("stop");
    assert_eq!(stop["maxItems"], limits::MAX_STOP_SEQUENCES);
    let logprobs = property::<InferRequest>("logprobs");
    assert_eq!(logprobs["maximum"], limits::MAX_TOP_LOGPROBS);
    assert_eq!(property::<InferRequest>("max_tokens")["minimum"], 1);
    assert_eq!(property::<EmbedRequest>("inputs")["minItems"], 1);
}

#[test]
fn schemas_are_those_of_the_json() {
    let json = |schema: utoipa::openapi::RefOr<_>| -> Value {
        let schema: utoipa::openapi::RefOr<utoipa::openapi::Schema> = schema;
        serde_json::to_value(schema).unwrap()
    };
    let bias = json(crate::schemas::LogitBias::schema());
    assert_eq!(bias["prefixItems"][1]["maximum"], 100);
    assert_eq!(
        (&bias["items"], &bias["minItems"], &bias["maxItems"]),
        (&json!(false), &json!(2), &json!(2))
    );
    let stop = json(crate::schemas::StopSequence::schema());
    assert_eq!(stop["maxLength"], limits::MAX_STOP_SEQUENCE_BYTES);
}
