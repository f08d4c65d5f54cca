//! Requests that the worker refuses. Every refusal is an error in the form of the contract.

use std::time::Duration;

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::time::timeout;
use worker_contract::limits::MAX_BODY_BYTES;

use super::case;
use crate::{
    bench::Bench,
    case::Case,
    endpoint::send,
    response::Answer,
    verdict::{Checked, Verdict, miss, not_applicable},
};

/// Time within which a request is refused.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

pub(super) const CASES: &[Case] = &[
    case!(
        Worker,
        "invalid-json",
        invalid_json,
        "refuses a body that is not the JSON of a request with 400 INVALID_REQUEST"
    ),
    case!(
        Worker,
        "invalid-values",
        invalid_values,
        "refuses values outside their range with 400 INVALID_REQUEST"
    ),
    case!(
        Worker,
        "media-type",
        media_type,
        "refuses a body that is not declared as JSON with 415"
    ),
    case!(
        Worker,
        "body-limit",
        body_limit,
        "refuses a body above the limit with 413"
    ),
    case!(
        Worker,
        "unknown-route",
        unknown_route,
        "answers 404 to unknown paths"
    ),
    case!(
        Worker,
        "context-length",
        context_length,
        "refuses what exceeds its context with 400 CONTEXT_LENGTH_EXCEEDED"
    ),
    case!(
        Worker,
        "duplicate-id",
        duplicate_id,
        "refuses the id of a running request with 409 DUPLICATE_REQUEST"
    ),
    case!(
        Worker,
        "full",
        full,
        "refuses requests beyond its slots and queue with 503 ALL_SLOTS_BUSY"
    ),
];

async fn post_raw(bench: &Bench, content_type: Option<&str>, body: Vec<u8>) -> Checked<Answer> {
    let request = bench.endpoint.request(Method::POST, "/v1/infer").body(body);
    send(match content_type {
        Some(content_type) => request.header(CONTENT_TYPE, content_type),
        None => request,
    })
    .await
}

/// Names the request that a failure is about.
fn about<T>(what: &str, checked: Checked<T>) -> Checked<T> {
    checked.map_err(|verdict| match verdict {
        Verdict::Miss { expected, received } => {
            miss(format_args!("{expected} for {what}"), received)
        }
        Verdict::NotApplicable(why) => not_applicable(why),
    })
}

async fn invalid_json(bench: &mut Bench) -> Checked {
    for body in [
        &b"{\"request_id\": "[..],
        b"[]",
        b"",
        b"\xff\xfe",
        b"{\"request_id\": \"invalid-json-x\"}",
        b"{\"request_id\": \"invalid-json-x\", \"input\": {\"prompt\": 5}}",
    ] {
        let answer = post_raw(bench, Some("application/json"), body.to_vec()).await?;
        let shown = format!("the body `{}`", String::from_utf8_lossy(body));
        about(&shown, answer.error(400, "INVALID_REQUEST"))?;
    }
    Ok(())
}

async fn invalid_values(bench: &mut Bench) -> Checked {
    for values in [
        json!({"request_id": "a b"}),
        json!({"max_tokens": 0}),
        json!({"max_tokens": -1}),
        json!({"max_tokens": "many"}),
        json!({"input": {"prompt": ""}}),
        json!({"sampling": {"temperature": -1}}),
        json!({"sampling": {"top_p": 1.5}}),
        json!({"stop": [""]}),
        json!({"logprobs": 21}),
        json!({"deadline": "soon"}),
    ] {
        let shown = format!("the values {values}");
        let request = bench.endpoint.infer_request("invalid-values", values);
        let answer = bench.endpoint.post("/v1/infer", &request).await?;
        about(&shown, answer.error(400, "INVALID_REQUEST"))?;
    }
    Ok(())
}

async fn media_type(bench: &mut Bench) -> Checked {
    let request = bench.endpoint.infer_request("media-type", json!({}));
    let body = request.to_string().into_bytes();
    for content_type in [None, Some("text/plain")] {
        let answer = post_raw(bench, content_type, body.clone()).await?;
        about(
            &format!("the content type {content_type:?}"),
            answer.refusal(&[415]),
        )?;
    }
    Ok(())
}

async fn body_limit(bench: &mut Bench) -> Checked {
    let body = vec![b' '; MAX_BODY_BYTES + 1];
    let answer = post_raw(bench, Some("application/json"), body).await?;
    answer.refusal(&[413])
}

async fn unknown_route(bench: &mut Bench) -> Checked {
    let answer = bench
        .endpoint
        .call(Method::GET, "/v1/nothing-here", None)
        .await?;
    answer.refusal(&[404])?;
    let answer = bench.endpoint.call(Method::GET, "/v1/infer", None).await?;
    about("GET /v1/infer", answer.refusal(&[404, 405]))?;
    Ok(())
}

async fn context_length(bench: &mut Bench) -> Checked {
    let context = bench.endpoint.info().await?["context_length"].clone();
    let request = bench
        .endpoint
        .infer_request("context-length", json!({"max_tokens": context}));
    let answer = bench.endpoint.post("/v1/infer", &request).await?;
    let what = format!("a prompt and {context} tokens of output");
    about(&what, answer.error(400, "CONTEXT_LENGTH_EXCEEDED"))
}

async fn duplicate_id(bench: &mut Bench) -> Checked {
    let (id, mut opened) = bench.endpoint.hold("duplicate-id").await?;
    let request = bench
        .endpoint
        .infer_request("duplicate-id", json!({"request_id": id, "stream": false}));
    let answer = bench.endpoint.post("/v1/infer", &request).await?;
    let ended = opened.has_ended();
    bench.endpoint.abandon(&id, opened).await;
    bench.endpoint.all_free().await?;
    if ended && answer.status == 200 {
        return Err(not_applicable("the first request ended too early"));
    }
    answer.error(409, "DUPLICATE_REQUEST")
}

async fn full(bench: &mut Bench) -> Checked {
    let slots = bench.endpoint.slots().await?;
    // A queue longer than this makes requests wait where the queen cannot move them.
    let most = slots * 4 + 16;
    let requests: Vec<Value> = (0..most)
        .map(|_| bench.endpoint.long_request("full"))
        .collect();
    let mut sent: FuturesUnordered<_> = requests
        .iter()
        .map(|request| {
            bench
                .endpoint
                .request(Method::POST, "/v1/infer")
                .json(request)
                .send()
        })
        .collect();
    let mut started = Vec::new();
    let mut refusal = None;
    let answers = async {
        while refusal.is_none() || started.len() < slots {
            let Some(response) = sent.next().await else {
                break;
            };
            let response = response.map_err(|error| miss("an HTTP response", error))?;
            if response.status() == 200 {
                started.push(response);
            } else if refusal.is_none() {
                refusal = Some(Answer::read(response).await?);
            }
        }
        Ok(())
    };
    // Requests that wait for a slot are answered late; they need not be waited for.
    timeout(ANSWER_LIMIT, answers).await.unwrap_or(Ok(()))?;
    let accepted = started.len();
    drop((started, sent));
    for request in &requests {
        let path = format!(
            "/v1/infer/{}",
            request["request_id"].as_str().unwrap_or_default()
        );
        bench.endpoint.call(Method::DELETE, &path, None).await?;
    }
    bench.endpoint.all_free().await?;
    let Some(refusal) = refusal else {
        return Err(miss(
            format_args!("a refusal of the last of {most} requests with {slots} slots"),
            "none was refused",
        ));
    };
    if accepted < slots {
        return Err(miss(
            format_args!("{slots} requests that run with {slots} slots"),
            format_args!("{accepted} run, then {}", refusal.shown()),
        ));
    }
    refusal.error(503, "ALL_SLOTS_BUSY")
}
