use std::time::Duration;

use bdd::{Answer, World, eventually, within};
use cucumber::{given, then, when};
use futures_util::StreamExt as _;
use http::HeaderMap;
use reqwest::Method;
use serde_json::json;
use tokio::sync::oneshot;
use worker_contract::{FinishReason, StreamEvent, WorkerStatus};

use super::{Seen, hive::request, token, worker};

#[given(regex = r"^a long answer of (\S+) is streaming$")]
async fn streaming(world: &mut World, id: String) {
    let client = worker(world, &id);
    let ask = serde_json::from_value(json!({
        "request_id": "long", "input": {"prompt": "count"}, "sampling": {"seed": 1},
    }))
    .unwrap();
    let (first, begun) = oneshot::channel();
    let task = tokio::spawn(async move {
        let events = client.infer_stream(&ask, HeaderMap::new()).await.unwrap();
        let mut events = std::pin::pin!(events);
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
        seen
    });
    within(Duration::from_secs(10), "the first token", begun)
        .await
        .unwrap();
    world.get::<Seen>().stream = Some(task);
}

#[then(regex = r"^the long answer of \S+ ends undisturbed$")]
async fn undisturbed(world: &mut World) {
    let stream = world.get::<Seen>().stream.take().expect("it streams");
    let events = within(Duration::from_secs(20), "the answer", stream)
        .await
        .unwrap();
    let Some(StreamEvent::End(end)) = events.last() else {
        panic!("it ended with {:?}", events.last());
    };
    assert_eq!(end.reason, FinishReason::Stop);
    let tokens = events
        .iter()
        .filter(|e| matches!(e, StreamEvent::Token(_)))
        .count();
    assert!(tokens >= 100, "{tokens} tokens");
    assert_eq!(end.usage.completion_tokens as usize, tokens);
}

#[when(regex = r"^I begin to stop (\S+)$")]
fn begin_stop(world: &mut World, id: String) {
    let path = format!("/v1/workers/{id}");
    let request = request(world, Method::DELETE, &path).bearer_auth(token(world));
    let stopping = tokio::spawn(async move { Answer::read(request.send().await.unwrap()).await });
    world.get::<Seen>().stopping = Some(stopping);
}

#[then(regex = r"^(\S+) refuses new work with DRAINING$")]
async fn refuses(world: &mut World, id: String) {
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
    let ask = serde_json::from_value(json!({
        "request_id": "late", "input": {"prompt": "x"}, "stream": false,
    }))
    .unwrap();
    let refused = client.infer(&ask).await.unwrap_err().into_diagnostic();
    assert_eq!(refused.code, diagnostics::Code::Draining);
}

#[then("the stop succeeds")]
async fn stop_succeeds(world: &mut World) {
    let stopping = world.get::<Seen>().stopping.take().expect("it was begun");
    let answer = within(Duration::from_secs(20), "the stop", stopping)
        .await
        .unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text);
}
