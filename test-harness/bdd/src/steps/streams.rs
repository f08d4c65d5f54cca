//! Requests to `/v1/infer` in the background, and requests whose client disconnects.

use std::collections::HashMap;

use cucumber::{then, when};
use futures::StreamExt as _;
use queen_contract::{InferCall, InferEvent};
use serde_json::json;
use tokio::sync::mpsc;
use worker_contract::{FinishReason, StreamEvent};

use super::{
    daemons::request_counts,
    http::{REQUEST_LIMIT, client, queen_url, send},
};
use crate::{World, within};

pub(super) fn link() {}

#[derive(Debug, Default)]
struct Streams {
    /// Running requests by id.
    running: HashMap<String, Stream>,
    /// The last request that finished with a completion.
    finished: Option<Stream>,
}

/// The event stream of a request.
#[derive(Debug)]
struct Stream {
    model: String,
    events: mpsc::UnboundedReceiver<InferEvent>,
    seen: Vec<InferEvent>,
}

impl Stream {
    /// Waits for the next event of the worker; `None` at the end of the stream.
    async fn next(&mut self) -> Option<StreamEvent> {
        loop {
            let event = within(REQUEST_LIMIT, "an event", self.events.recv()).await?;
            self.seen.push(event.clone());
            if let InferEvent::Worker(event) = event {
                return Some(event);
            }
        }
    }

    async fn read_to_end(&mut self) {
        while self.next().await.is_some() {}
    }

    fn text(&self) -> String {
        self.seen
            .iter()
            .filter_map(|e| match e {
                InferEvent::Worker(StreamEvent::Token(token)) => Some(token.t.as_str()),
                _ => None,
            })
            .collect()
    }

    /// Number of tokens that each worker of the request produced.
    fn tokens_by_worker(&self) -> Vec<usize> {
        let mut counts = Vec::new();
        for event in &self.seen {
            match event {
                InferEvent::Assigned(_) => counts.push(0),
                InferEvent::Worker(StreamEvent::Token(_)) => {
                    *counts.last_mut().expect("a worker is assigned first") += 1;
                }
                _ => {}
            }
        }
        counts
    }
}

fn running<'a>(world: &'a mut World, id: &str) -> &'a mut Stream {
    let streams = &mut world.get::<Streams>().running;
    streams.get_mut(id).expect("the request was started")
}

/// Reads the events of a running request to the end.
async fn finished(world: &mut World, id: &str) -> Stream {
    let stream = world.get::<Streams>().running.remove(id);
    let mut stream = stream.expect("the request was started");
    stream.read_to_end().await;
    stream
}

async fn open(world: &mut World, id: &str, model: &str, max_tokens: Option<u32>) -> Stream {
    let call: InferCall = serde_json::from_value(json!({
        "model": model, "request_id": id, "max_tokens": max_tokens,
        "sampling": {"seed": 1}, "input": {"prompt": "count"},
    }))
    .unwrap();
    let stream = world.queen().infer(&call).await.unwrap();
    let (sender, events) = mpsc::unbounded_channel();
    world.spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            if sender.send(event.unwrap()).is_err() {
                return;
            }
        }
    });
    Stream {
        model: model.to_owned(),
        events,
        seen: Vec::new(),
    }
}

#[when(regex = r"^I start the request (\S+) for `([^`]*)`(?: with max_tokens (\d+))?$")]
async fn start(world: &mut World, id: String, model: String, max_tokens: String) {
    let stream = open(world, &id, &model, max_tokens.parse().ok()).await;
    world.get::<Streams>().running.insert(id, stream);
}

#[when(regex = r"^the worker has started the request (\S+)$")]
async fn has_started(world: &mut World, id: String) {
    let event = running(world, &id).next().await;
    assert!(matches!(event, Some(StreamEvent::Started(_))), "{event:?}");
}

#[when(regex = r"^the request (\S+) has streamed (\d+) tokens?$")]
async fn has_streamed(world: &mut World, id: String, count: usize) {
    let stream = running(world, &id);
    let mut tokens = 0;
    while tokens < count {
        match stream.next().await {
            Some(StreamEvent::Token(_)) => tokens += 1,
            Some(StreamEvent::Started(_)) => {}
            other => panic!("{other:?} after {tokens} tokens"),
        }
    }
}

#[when(regex = r"^I cancel the request (\S+)$")]
async fn cancel(world: &mut World, id: String) {
    let request = client().delete(queen_url(world, &format!("/v1/infer/{id}")));
    world.response = Some(send(request).await);
}

#[then(regex = r"^the request (\S+) fails with ([A-Z_]+)$")]
async fn fails(world: &mut World, id: String, code: String) {
    let stream = finished(world, &id).await;
    match stream.seen.last() {
        Some(InferEvent::Worker(StreamEvent::Error(error))) => {
            assert_eq!(error.code.as_str(), code, "{error}");
        }
        other => panic!("the last event is {other:?}"),
    }
}

#[then(regex = r"^the request (\S+) finishes with (stop|length)$")]
async fn finishes(world: &mut World, id: String, reason: String) {
    let stream = finished(world, &id).await;
    let expected = match reason.as_str() {
        "stop" => FinishReason::Stop,
        _ => FinishReason::Length,
    };
    match stream.seen.last() {
        Some(InferEvent::Worker(StreamEvent::End(end))) => assert_eq!(end.reason, expected),
        other => panic!("the last event is {other:?}"),
    }
    let started = |e: &&InferEvent| matches!(e, InferEvent::Worker(StreamEvent::Started(_)));
    assert_eq!(stream.seen.iter().filter(started).count(), 1);
    world.get::<Streams>().finished = Some(stream);
}

/// The request that finished last.
fn last_finished(world: &mut World) -> &Stream {
    let stream = world.get::<Streams>().finished.as_ref();
    stream.expect("a request has finished")
}

#[then("the first of its 2 workers produced no token")]
fn first_failed_before_token(world: &mut World) {
    let tokens = last_finished(world).tokens_by_worker();
    assert!(
        matches!(tokens[..], [0, second] if second > 0),
        "{tokens:?}"
    );
}

#[then(regex = r"^the first of its 2 workers produced at least (\d+) tokens, but not all$")]
fn first_failed_after_tokens(world: &mut World, min: usize) {
    let tokens = last_finished(world).tokens_by_worker();
    assert!(
        matches!(tokens[..], [first, second] if first >= min && second > 0),
        "{tokens:?}"
    );
}

#[then("its text equals that of an undisturbed request")]
async fn as_undisturbed(world: &mut World) {
    let disturbed = last_finished(world);
    let (model, text) = (disturbed.model.clone(), disturbed.text());
    let mut undisturbed = open(world, "undisturbed", &model, None).await;
    undisturbed.read_to_end().await;
    assert!(!text.is_empty());
    assert_eq!(undisturbed.tokens_by_worker().len(), 1);
    assert_eq!(undisturbed.text(), text);
}

#[when(
    regex = r"^a client sends a (streaming|non-streaming) request for `(.*)` and disconnects while it runs$"
)]
async fn disconnects(world: &mut World, kind: String, model: String) {
    let url = queen_url(world, "/v1/chat/completions");
    let body = json!({"model": model, "stream": kind == "streaming",
        "messages": [{"role": "user", "content": "x"}]});
    let request = tokio::spawn(client().post(url).json(&body).send());
    request_counts(world, 1, 0).await;
    // Dropping the request, or the response if it has begun, closes the connection.
    request.abort();
    let _ = request.await;
}
