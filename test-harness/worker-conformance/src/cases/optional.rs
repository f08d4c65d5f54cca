//! What not every worker can do. A worker that does not declare a capability refuses the request
//! by name, or does it correctly; it never ignores it.

use serde_json::{Value, json};
use worker_contract::{
    DetokenizeResponse, EmbedResponse, FinishReason, InferResponse, TokenizeResponse,
};

use super::case;
use crate::{
    bench::Bench,
    case::Case,
    verdict::{Checked, equal, expect, not_applicable},
};

/// Pixel in a PNG file.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

pub(super) const CASES: &[Case] = &[
    case!(
        Worker,
        "tokenize",
        tokenize,
        "converts text to tokens and back without loss, if it declares `tokenize`"
    ),
    case!(
        Worker,
        "embed",
        embed,
        "returns one vector of length 1 for each input, if it declares `embed`"
    ),
    case!(
        Worker,
        "logprobs",
        logprobs,
        "reports log probabilities, if it declares `logprobs`"
    ),
    case!(
        Worker,
        "constraints",
        constraints,
        "generates only what matches a constraint, if it declares `constraints`"
    ),
    case!(
        Worker,
        "tools",
        tools,
        "calls the tool that it must call, if it declares `tools`"
    ),
    case!(
        Worker,
        "vision",
        vision,
        "refuses images unless it declares `vision`"
    ),
    case!(
        Worker,
        "reasoning",
        reasoning,
        "separates reasoning from the answer, or refuses required reasoning"
    ),
    case!(
        Worker,
        "continuation",
        continuation,
        "continues after given tokens as an undisturbed run, if it declares `continue`"
    ),
];

/// Succeeds if the worker declares the capability or accepts the request. Otherwise, checks that
/// it refuses the request.
async fn declares(bench: &Bench, capability: &str, path: &str, request: &Value) -> Checked {
    if bench.endpoint.can(capability).await? {
        return Ok(());
    }
    let answer = bench.endpoint.post(path, request).await?;
    if answer.status == 200 {
        // What is not declared may be done, but then correctly.
        return Ok(());
    }
    answer.refusal(&[400, 404, 501])?;
    let expected = [
        "UNSUPPORTED_PARAMETER",
        "UNSUPPORTED_MODEL",
        "NOT_FOUND",
        "NO_CHAT_TEMPLATE",
    ];
    let code = answer.json["error"]["code"].as_str().unwrap_or("no code");
    expect(
        expected.contains(&code),
        format_args!("a refusal with one of {expected:?}"),
        answer.shown(),
    )?;
    Err(not_applicable(format_args!(
        "`{capability}` is not declared, and refused with {code}"
    )))
}

async fn tokenize(bench: &mut Bench) -> Checked {
    let text = "The quick brown fox jumps.";
    let request = json!({"input": {"prompt": text}});
    declares(bench, "tokenize", "/v1/tokenize", &request).await?;
    let answer = bench.endpoint.post("/v1/tokenize", &request).await?;
    answer.status(200)?;
    let tokenized: TokenizeResponse = answer.parse("the TokenizeResponse of the contract")?;
    equal(
        "count",
        &(tokenized.count as usize),
        &tokenized.tokens.len(),
    )?;
    let answer = bench
        .endpoint
        .post("/v1/detokenize", &json!({"tokens": tokenized.tokens}))
        .await?;
    answer.status(200)?;
    let detokenized: DetokenizeResponse = answer.parse("the DetokenizeResponse of the contract")?;
    equal("text of the tokens", &detokenized.text.trim_start(), &text)?;
    let input = json!({"input": {"tokens": tokenized.tokens}});
    let request = bench.endpoint.infer_request("tokenize", input);
    let started = bench.endpoint.infer(&request).await?.started;
    equal(
        "prompt_tokens of these tokens as input",
        &started.prompt_tokens,
        &tokenized.count,
    )
}

async fn embed(bench: &mut Bench) -> Checked {
    let request = json!({
        "request_id": "embed-1",
        "inputs": [{"prompt": "a red apple"}, {"prompt": "the price of steel"}, {"prompt": "a red apple"}],
    });
    declares(bench, "embed", "/v1/embed", &request).await?;
    let answer = bench.endpoint.post("/v1/embed", &request).await?;
    answer.status(200)?;
    let response: EmbedResponse = answer.parse("the EmbedResponse of the contract")?;
    equal("number of vectors", &response.vectors.len(), &3)?;
    for vector in &response.vectors {
        let length = vector
            .iter()
            .map(|x| f64::from(*x).powi(2))
            .sum::<f64>()
            .sqrt();
        expect(
            (length - 1.0).abs() < 1e-3,
            "vectors of length 1",
            format_args!("length {length}"),
        )?;
    }
    let distance = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max)
    };
    let [first, second, third] = &response.vectors[..] else {
        return Ok(());
    };
    expect(
        distance(first, third) < 1e-3,
        "the same vector for the same text",
        "another one",
    )?;
    expect(
        distance(first, second) > 1e-3,
        "another vector for another text",
        "the same one",
    )
}

async fn logprobs(bench: &mut Bench) -> Checked {
    let request = bench
        .endpoint
        .infer_request("logprobs", json!({"logprobs": 2, "max_tokens": 4}));
    declares(bench, "logprobs", "/v1/infer", &request).await?;
    let output = bench.endpoint.infer(&request).await?;
    output.end()?;
    for token in &output.tokens {
        let shown = format!("{token:?}");
        let Some(logprob) = &token.logprob else {
            return expect(false, "`logprob` in every token", shown);
        };
        expect(logprob.logprob <= 0.0, "log probabilities up to 0", &shown)?;
        let top = &logprob.top;
        let is_sorted = top
            .windows(2)
            .all(|pair| pair[0].logprob >= pair[1].logprob);
        expect(
            top.len() == 2 && is_sorted,
            "the 2 most likely tokens in order",
            &shown,
        )?;
        expect(
            top[0].id == token.id,
            "the most likely token at temperature 0",
            &shown,
        )?;
    }
    Ok(())
}

async fn constraints(bench: &mut Bench) -> Checked {
    let constraint = json!({"constraint": {"regex": "[0-9]{3}"}});
    let request = bench.endpoint.infer_request("constraints", constraint);
    declares(bench, "constraints", "/v1/infer", &request).await?;
    let answer = bench.endpoint.post("/v1/infer", &request).await?;
    if answer.status == 400 && answer.json["error"]["code"] == "UNSUPPORTED_PARAMETER" {
        // Not every engine has every kind of constraint.
        return json_constraint(bench).await;
    }
    let text = bench.endpoint.infer(&request).await?.text();
    expect(
        text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()),
        "an output that matches `[0-9]{3}`",
        format_args!("{text:?}"),
    )?;
    let invalid = json!({"constraint": {"regex": "("}, "stream": false});
    let request = bench.endpoint.infer_request("constraints", invalid);
    bench
        .endpoint
        .post("/v1/infer", &request)
        .await?
        .refusal(&[400])
}

async fn json_constraint(bench: &mut Bench) -> Checked {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}},
        "required": ["n"], "additionalProperties": false});
    let more = json!({"constraint": {"json_schema": schema}, "max_tokens": 100});
    let request = bench.endpoint.infer_request("constraints", more);
    let output = bench.endpoint.infer(&request).await?;
    if output.end()?.reason == FinishReason::Length {
        return Err(not_applicable("the output did not end within 100 tokens"));
    }
    let value: Value = serde_json::from_str(&output.text()).unwrap_or_default();
    expect(
        value["n"].is_i64(),
        "JSON that is valid under the schema",
        format_args!("{:?}", output.text()),
    )
}

async fn tools(bench: &mut Bench) -> Checked {
    let tool = json!({
        "name": "get_time", "description": "Returns the time.",
        "parameters": {
            "type": "object", "properties": {"zone": {"type": "string", "enum": ["utc", "local"]}},
            "required": ["zone"], "additionalProperties": false,
        },
    });
    let more = json!({
        "input": {"messages": [{"role": "user", "content": "What time is it?"}]},
        "tools": [tool], "tool_choice": {"named": "get_time"}, "max_tokens": 200, "stream": false,
    });
    let request = bench.endpoint.infer_request("tools", more);
    declares(bench, "tools", "/v1/infer", &request).await?;
    let answer = bench.endpoint.post("/v1/infer", &request).await?;
    answer.status(200)?;
    let document: InferResponse = answer.parse("the InferResponse of the contract")?;
    let call = document.tool_calls.first();
    let name = call.map(|call| call.name.as_str());
    expect(
        name == Some("get_time"),
        "a call of `get_time`",
        answer.shown(),
    )?;
    if document.reason == FinishReason::Length {
        return Err(not_applicable(
            "the model did not end its call within 200 tokens",
        ));
    }
    equal("reason", &document.reason, &FinishReason::ToolCalls)?;
    let arguments = call.map_or("", |call| call.arguments.as_str());
    let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
    expect(
        arguments["zone"].is_string(),
        "arguments that match the schema",
        answer.shown(),
    )
}

async fn vision(bench: &mut Bench) -> Checked {
    let images = json!([{"media_type": "image/png", "data": PIXEL}]);
    let messages = json!([{"role": "user", "content": "What is this?", "images": images}]);
    let more = json!({"input": {"messages": messages}, "stream": false});
    let request = bench.endpoint.infer_request("vision", more);
    if bench.endpoint.can("vision").await? {
        return bench
            .endpoint
            .post("/v1/infer", &request)
            .await?
            .status(200);
    }
    let answer = bench.endpoint.post("/v1/infer", &request).await?;
    answer.refusal(&[400])
}

async fn reasoning(bench: &mut Bench) -> Checked {
    let more = json!({
        "input": {"messages": [{"role": "user", "content": "What is two plus two?"}]},
        "reasoning": {"enabled": true, "required": true}, "stream": false, "max_tokens": 100,
    });
    let request = bench.endpoint.infer_request("reasoning", more);
    let answer = bench.endpoint.post("/v1/infer", &request).await?;
    if answer.status != 200 {
        answer.refusal(&[400])?;
        return Err(not_applicable(
            "the model cannot reason, and required reasoning is refused",
        ));
    }
    let document: InferResponse = answer.parse("the InferResponse of the contract")?;
    let usage = document.usage;
    expect(
        !document.reasoning.is_empty() && !document.text.contains("<think>"),
        "`reasoning`, and no mark of it in `text`",
        answer.shown(),
    )?;
    expect(
        (1..=usage.completion_tokens).contains(&usage.reasoning_tokens),
        "reasoning_tokens from 1 up to completion_tokens",
        format_args!("{usage:?}"),
    )
}

async fn continuation(bench: &mut Bench) -> Checked {
    const DONE: usize = 5;
    let more = json!({"sampling": {"temperature": 0.8, "seed": 99}});
    let request = bench.endpoint.infer_request("continuation", more.clone());
    let whole = bench.endpoint.infer(&request).await?;
    let ids = whole.ids();
    if ids.len() <= DONE + 1 {
        return Err(not_applicable("the output is too short to be continued"));
    }
    let mut request = bench.endpoint.infer_request("continuation", more);
    request["continue_from"] = json!(ids[..DONE]);
    declares(bench, "continue", "/v1/infer", &request).await?;
    let rest = bench.endpoint.infer(&request).await?;
    equal(
        "tokens after the given ones",
        &rest.ids(),
        &ids[DONE..].to_vec(),
    )?;
    let first = rest.tokens.first().map(|token| token.i as usize);
    equal("`i` of the first token", &first, &Some(DONE))?;
    equal(
        "completion_tokens",
        &(rest.end()?.usage.completion_tokens as usize),
        &ids.len(),
    )
}
