//! Outputs: streams and documents, their limits, and how they are ended.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use jiff::{Timestamp, ToSpan as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;
use worker_contract::{FinishReason, InferResponse};

use super::case;
use crate::{
    bench::Bench,
    case::Case,
    response::Answer,
    stream::{Last, Opened, Output},
    verdict::{Checked, equal, expect, miss, not_applicable},
};

/// Time within which the stream of a cancelled request ends.
const END_LIMIT: Duration = Duration::from_secs(2);

pub(super) const CASES: &[Case] = &[
    case!(
        Worker,
        "stream",
        stream,
        "streams `started`, tokens numbered without gaps, `metrics`, and `end` as the last event"
    ),
    case!(
        Worker,
        "usage",
        usage,
        "reports the tokens that it received and generated"
    ),
    case!(
        Worker,
        "document",
        document,
        "returns with `stream: false` what it streams otherwise"
    ),
    case!(
        Worker,
        "seed-reported",
        seed_reported,
        "reports the seed, that of the request or a drawn one"
    ),
    case!(
        Worker,
        "seed-reproducible",
        seed_reproducible,
        "generates the same output with the same seed"
    ),
    case!(
        Worker,
        "max-tokens",
        max_tokens,
        "ends the output after `max_tokens` with the reason `length`"
    ),
    case!(
        Worker,
        "stop-sequences",
        stop_sequences,
        "ends the output before a stop sequence and says which"
    ),
    case!(
        Worker,
        "unknown-fields",
        unknown_fields,
        "accepts unknown fields in requests"
    ),
    case!(
        Worker,
        "messages",
        messages,
        "answers messages, or refuses them if the model has no chat template"
    ),
    case!(
        Worker,
        "cancel",
        cancel,
        "ends a request that is cancelled with CANCELLED, and answers 204 to every cancel"
    ),
    case!(
        Worker,
        "disconnect",
        disconnect,
        "frees the slot of a client that disconnects, streaming or not"
    ),
    case!(
        Worker,
        "deadline",
        deadline,
        "ends a request at its deadline with DEADLINE_EXCEEDED"
    ),
    case!(
        Worker,
        "concurrent",
        concurrent,
        "runs requests at the same time, with the outputs of running alone"
    ),
];

async fn stream(bench: &mut Bench) -> Checked {
    let request = bench.endpoint.infer_request("stream", json!({}));
    let output = bench.endpoint.infer(&request).await?;
    output.end()?;
    equal(
        "request_id",
        &json!(output.started.request_id),
        &request["request_id"],
    )?;
    expect(!output.tokens.is_empty(), "at least one token", "none")?;
    let numbers: Vec<u32> = output.tokens.iter().map(|token| token.i).collect();
    let expected: Vec<u32> = (0..numbers.len() as u32).collect();
    equal("`i` of the tokens", &numbers, &expected)
}

async fn usage(bench: &mut Bench) -> Checked {
    let request = bench.endpoint.infer_request("usage", json!({}));
    let output = bench.endpoint.infer(&request).await?;
    let usage = output.end()?.usage;
    equal(
        "completion_tokens",
        &(usage.completion_tokens as usize),
        &output.tokens.len(),
    )?;
    equal(
        "prompt_tokens of `end` and `started`",
        &usage.prompt_tokens,
        &output.started.prompt_tokens,
    )?;
    expect(
        usage.prompt_tokens > 0,
        "prompt_tokens above 0",
        usage.prompt_tokens,
    )?;
    expect(
        usage.cached_tokens <= usage.prompt_tokens
            && usage.reasoning_tokens <= usage.completion_tokens,
        "cached_tokens up to prompt_tokens, reasoning_tokens up to completion_tokens",
        format_args!("{usage:?}"),
    )
}

async fn document(bench: &mut Bench) -> Checked {
    let request = bench.endpoint.infer_request(
        "document",
        json!({"sampling": {"temperature": 0.0, "seed": 5}}),
    );
    let streamed = bench.endpoint.infer(&request).await?;
    let end = streamed.end()?;
    let mut request = bench.endpoint.infer_request(
        "document",
        json!({"sampling": {"temperature": 0.0, "seed": 5}}),
    );
    request["stream"] = json!(false);
    let answer = bench.endpoint.post("/v1/infer", &request).await?;
    answer.status(200)?;
    let document: InferResponse = answer.parse("the InferResponse of the contract")?;
    equal(
        "request_id",
        &json!(document.request_id),
        &request["request_id"],
    )?;
    equal("text", &document.text, &streamed.text())?;
    equal("tokens", &document.tokens, &streamed.ids())?;
    equal("reason", &document.reason, &end.reason)?;
    equal("seed", &document.seed, &5)?;
    equal(
        "completion_tokens",
        &document.usage.completion_tokens,
        &end.usage.completion_tokens,
    )?;
    equal(
        "prompt_tokens",
        &document.usage.prompt_tokens,
        &end.usage.prompt_tokens,
    )
}

async fn sampled(bench: &Bench, case: &str, seed: Option<u64>) -> Checked<Output> {
    let sampling = json!({"temperature": 1.0, "seed": seed});
    let request = bench
        .endpoint
        .infer_request(case, json!({"sampling": sampling}));
    let output = bench.endpoint.infer(&request).await?;
    output.end()?;
    Ok(output)
}

async fn seed_reported(bench: &mut Bench) -> Checked {
    let output = sampled(bench, "seed-reported", Some(4321)).await?;
    equal("seed", &output.started.seed, &4321)?;
    let first = sampled(bench, "seed-reported", None).await?.started.seed;
    let second = sampled(bench, "seed-reported", None).await?.started.seed;
    expect(
        first != second,
        "another seed for each request without one",
        format_args!("{first} twice"),
    )
}

async fn seed_reproducible(bench: &mut Bench) -> Checked {
    let first = sampled(bench, "seed-reproducible", None).await?;
    let second = sampled(bench, "seed-reproducible", Some(first.started.seed)).await?;
    equal("tokens with the reported seed", &second.ids(), &first.ids())
}

async fn max_tokens(bench: &mut Bench) -> Checked {
    let request = bench
        .endpoint
        .infer_request("max-tokens", json!({"max_tokens": 5}));
    let output = bench.endpoint.infer(&request).await?;
    let end = output.end()?;
    if end.reason == FinishReason::Stop && output.tokens.len() <= 5 {
        return Err(not_applicable("the model ended its output before 5 tokens"));
    }
    equal("number of tokens", &output.tokens.len(), &5)?;
    equal("reason", &end.reason, &FinishReason::Length)
}

async fn stop_sequences(bench: &mut Bench) -> Checked {
    let request = bench
        .endpoint
        .infer_request("stop-sequences", json!({"max_tokens": 24}));
    let text = bench.endpoint.infer(&request).await?.text();
    let characters: Vec<char> = text.chars().collect();
    if characters.len() < 6 {
        return Err(not_applicable(format_args!(
            "the output is too short: {text:?}"
        )));
    }
    let middle = characters.len() / 2;
    let stop: String = characters[middle..middle + 3].iter().collect();
    let expected = text.split(&stop).next().unwrap_or_default();
    let request = bench.endpoint.infer_request(
        "stop-sequences",
        json!({"max_tokens": 24, "stop": ["\u{1}not in the output", stop]}),
    );
    let output = bench.endpoint.infer(&request).await?;
    let end = output.end()?;
    equal(
        "text before the stop sequence",
        &output.text().as_str(),
        &expected,
    )?;
    equal("reason", &end.reason, &FinishReason::Stop)?;
    equal("index of the stop sequence", &end.stop, &Some(1))
}

async fn unknown_fields(bench: &mut Bench) -> Checked {
    let more = json!({"field_of_a_newer_version": {"a": [1]}});
    let request = bench.endpoint.infer_request("unknown-fields", more);
    bench.endpoint.infer(&request).await?.end()?;
    Ok(())
}

async fn messages(bench: &mut Bench) -> Checked {
    let messages = json!([
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "Say hello."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Say it again."},
    ]);
    let mut request = bench
        .endpoint
        .infer_request("messages", json!({"input": {"messages": messages}}));
    request["stream"] = json!(false);
    let answer = bench.endpoint.post("/v1/infer", &request).await?;
    if answer.status != 200 {
        answer.error(400, "NO_CHAT_TEMPLATE")?;
        return Err(not_applicable(
            "the model has no chat template, and says so",
        ));
    }
    let document: InferResponse = answer.parse("the InferResponse of the contract")?;
    expect(
        document.usage.completion_tokens > 0,
        "an output",
        answer.shown(),
    )
}

async fn cancel(bench: &mut Bench) -> Checked {
    let (id, mut opened) = bench.endpoint.hold("cancel").await?;
    let ended = opened.has_ended();
    let path = format!("/v1/infer/{id}");
    let cancel = bench.endpoint.call(Method::DELETE, &path, None).await?;
    cancel.status(204)?;
    let rest = timeout(END_LIMIT, opened.finish()).await;
    for path in [path.as_str(), "/v1/infer/never-existed"] {
        let cancel = bench.endpoint.call(Method::DELETE, path, None).await?;
        cancel.status(204)?;
    }
    if ended {
        return Err(not_applicable("the output ended before the cancel"));
    }
    let limit = format!("the event `error` within {} s", END_LIMIT.as_secs());
    let output = rest.map_err(|_| miss(limit, "more tokens"))??;
    output.error("CANCELLED")?;
    bench.endpoint.all_free().await
}

async fn disconnect(bench: &mut Bench) -> Checked {
    let (id, mut opened) = bench.endpoint.hold("disconnect").await?;
    opened.token().await?;
    drop(opened);
    let streamed = bench.endpoint.all_free().await;
    let mut request = bench.endpoint.long_request("disconnect");
    request["stream"] = json!(false);
    let sent = bench
        .endpoint
        .request(Method::POST, "/v1/infer")
        .json(&request)
        .send();
    // The document takes longer than this, and the client leaves.
    let _ = timeout(Duration::from_millis(150), sent).await;
    let document = bench.endpoint.all_free().await;
    // The requests must not be in the way of other cases.
    for id in [
        id.as_str(),
        request["request_id"].as_str().unwrap_or_default(),
    ] {
        bench
            .endpoint
            .call(Method::DELETE, &format!("/v1/infer/{id}"), None)
            .await?;
    }
    streamed.and(document)
}

async fn deadline(bench: &mut Bench) -> Checked {
    let deadline_in = |milliseconds: i64| {
        let deadline = Timestamp::now().checked_add(milliseconds.milliseconds());
        deadline.map(|t| t.to_string()).unwrap_or_default()
    };
    let mut request = bench
        .endpoint
        .infer_request("deadline", json!({"deadline": deadline_in(-60_000)}));
    let answer = bench.endpoint.post("/v1/infer", &request).await?;
    answer.error(408, "DEADLINE_EXCEEDED")?;
    request = bench.endpoint.long_request("deadline");
    request["deadline"] = json!(deadline_in(1500));
    let response = bench.endpoint.send_infer(&request).await?;
    if response.status() == 408 {
        // The deadline can pass before the first token.
        let in_time = deadline_has_not_passed(&request);
        Answer::read(response)
            .await?
            .error(408, "DEADLINE_EXCEEDED")?;
        expect(
            !in_time,
            "DEADLINE_EXCEEDED after the deadline",
            "it before",
        )?;
        return bench.endpoint.all_free().await;
    }
    let output = Opened::start(response).await?.finish().await?;
    let in_time = deadline_has_not_passed(&request);
    bench.endpoint.all_free().await?;
    match &output.last {
        Last::End(_) if in_time => Err(not_applicable("the output ended before the deadline")),
        _ => output.error("DEADLINE_EXCEEDED"),
    }
}

fn deadline_has_not_passed(request: &Value) -> bool {
    let deadline = request["deadline"]
        .as_str()
        .and_then(|text| text.parse::<Timestamp>().ok());
    deadline.is_some_and(|deadline| Timestamp::now() < deadline)
}

async fn concurrent(bench: &mut Bench) -> Checked {
    let endpoint = &bench.endpoint;
    let slots = endpoint.slots().await?;
    if slots < 2 {
        return Err(not_applicable("the worker has one slot"));
    }
    let prompts: Vec<String> = (0..slots)
        .map(|n| format!("Number {n} of the list is called"))
        .collect();
    let request = |prompt: &String| {
        endpoint.infer_request("concurrent", json!({"input": endpoint.input(prompt)}))
    };
    let mut alone = Vec::new();
    for prompt in &prompts {
        alone.push(endpoint.infer(&request(prompt)).await?.ids());
    }
    let opened = join_all(prompts.iter().map(|prompt| async move {
        let request = request(prompt);
        let opened = endpoint.open(&request).await?;
        equal(
            "request_id",
            &json!(opened.started.request_id),
            &request["request_id"],
        )?;
        Ok(opened)
    }));
    // All requests have a slot before the output of any is read.
    let mut outputs = Vec::new();
    for opened in opened.await {
        outputs.push(opened?);
    }
    let outputs = try_join_all(outputs.into_iter().map(Opened::finish)).await?;
    for (output, alone) in outputs.iter().zip(&alone) {
        output.end()?;
        equal(
            "tokens of a request that runs with others",
            &output.ids(),
            alone,
        )?;
    }
    if outputs.is_empty() {
        return Err(miss("outputs", "none"));
    }
    Ok(())
}
