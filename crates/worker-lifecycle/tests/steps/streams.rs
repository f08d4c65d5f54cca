use std::time::Duration;

use bdd::{HttpResponse, World, eventually, within};
use cucumber::{given, then, when};
use futures_util::StreamExt as _;
use http::HeaderMap;
use reqwest::Method;
use serde_json::json;
use tokio::sync::oneshot;
use worker_contract::{FinishReason, StreamEvent, WorkerStatus};

use super::{State, hive::request, worker};

#[given(regex = r"^(\S+) is streaming a long completion$")]
async fn streaming(world: &mut World, id: String) {
    let client = worker(world, &id);
    let request = serde_json::from_value(json!({
        "request_id": "long", "input": {"prompt": "count"}, "sampling": {"seed": 1},
    }))
    .unwrap();
    let (first, first_token) = oneshot::channel();
    let (all, completion) = oneshot::channel();
    world.spawn(async move {
        let events = client.infer_stream(&request, HeaderMap::new()).await;
        let mut events = std::pin::pin!(events.unwrap());
        let (mut seen, mut first) = (Vec::new(), Some(first));
        while let Some(event) = events.next().await {
            let event = event.unwrap();
            if matches!(event, StreamEvent::Token(_))
                && let Some(first) = first.take()
            {
                first.send(()).unwrap();
            }
            seen.push(event);
        }
        // Fails when the scenario has ended before.
        let _ = all.send(seen);
    });
    within(Duration::from_secs(10), "the first token", first_token)
        .await
        .unwrap();
    world.get::<State>().completion = Some(completion);
}

/// Waits for the end of the completion and returns its events.
async fn completion(world: &mut World) -> Vec<StreamEvent> {
    let completion = world.get::<State>().completion.take();
    let completion = completion.expect("a worker is streaming");
    within(Duration::from_secs(20), "the completion", completion)
        .await
        .unwrap()
}

#[then(regex = r"^the completion of \S+ ended with ([A-Z_]+)$")]
async fn ended_with(world: &mut World, code: String) {
    let events = completion(world).await;
    let Some(StreamEvent::Error(error)) = events.last() else {
        panic!("the last event is {:?}", events.last());
    };
    assert_eq!(error.code.as_str(), code, "{error}");
}

#[then(regex = r"^the completion of \S+ is complete$")]
async fn complete(world: &mut World) {
    let events = completion(world).await;
    let Some(StreamEvent::End(end)) = events.last() else {
        panic!("the last event is {:?}", events.last());
    };
    assert_eq!(end.reason, FinishReason::Stop);
    let tokens = events
        .iter()
        .filter(|e| matches!(e, StreamEvent::Token(_)))
        .count();
    assert!(tokens >= 100, "{tokens} tokens");
    assert_eq!(end.usage.completion_tokens as usize, tokens);
}

#[when(regex = r"^I request the stop of (\S+)$")]
fn request_stop(world: &mut World, id: String) {
    let path = format!("/v1/workers/{id}");
    let request = request(world, Method::DELETE, &path).bearer_auth(world.node_token());
    let (sender, stop) = oneshot::channel();
    world.spawn(async move {
        let response = HttpResponse::read(request.send().await.unwrap()).await;
        // Fails when the scenario has ended before.
        let _ = sender.send(response);
    });
    world.get::<State>().stop = Some(stop);
}

#[then(regex = r"^(\S+) rejects new requests with DRAINING$")]
async fn rejects(world: &mut World, id: String) {
    let client = worker(world, &id);
    eventually(Duration::from_secs(5), || async {
        let info = client.info().await.map_err(|e| e.to_string())?;
        if info.status == WorkerStatus::Draining {
            Ok(())
        } else {
            Err(format!("{info:?}"))
        }
    })
    .await;
    let request = serde_json::from_value(json!({
        "request_id": "late", "input": {"prompt": "x"}, "stream": false,
    }))
    .unwrap();
    let rejected = client.infer(&request).await.unwrap_err().into_diagnostic();
    assert_eq!(rejected.code, diagnostics::Code::Draining);
}

#[then("the stop succeeds")]
async fn stop_succeeds(world: &mut World) {
    let stop = world.get::<State>().stop.take();
    let stop = stop.expect("a stop was requested");
    let response = within(Duration::from_secs(20), "the stop", stop)
        .await
        .unwrap();
    assert_eq!(response.status, 204, "{}", response.text);
}
