//! Requests for a model whose only slot another request holds.

mod checks;
mod sending;

use std::{collections::HashMap, pin::pin, time::Duration};

use bdd::{World, within};
use futures::StreamExt as _;
use queen_contract::{InferCall, InferEvent, Priority, QueenClient};
use serde_json::json;
use tokio::sync::mpsc;
use worker_contract::StreamEvent;

/// A worker for it has one slot and takes 50 ms for each token.
const MODEL: &str = "mock:slots=1,tokens_per_second=20,length=100000,context=1000000";
const HOLDER: &str = "holder";
/// Maximum time for an event, including the start of a worker.
const LIMIT: Duration = Duration::from_secs(60);

/// The requests that were sent, by id.
#[derive(Debug, Default)]
struct Sent(HashMap<String, Events>);

/// The events of a request.
#[derive(Debug)]
struct Events {
    receiver: mpsc::UnboundedReceiver<InferEvent>,
    seen: Vec<InferEvent>,
}

impl Events {
    /// Waits for an event that `is` accepts, also among those that were received before.
    async fn until(&mut self, what: &str, is: impl Fn(&InferEvent) -> bool) {
        if self.seen.iter().any(&is) {
            return;
        }
        loop {
            let event = within(LIMIT, what, self.receiver.recv()).await;
            let event = event.unwrap_or_else(|| panic!("no {what}: {:?}", self.seen));
            self.seen.push(event.clone());
            if is(&event) {
                return;
            }
        }
    }

    async fn read_to_end(&mut self) {
        self.until("end", |event| match event {
            InferEvent::Worker(event) => event.is_terminal(),
            _ => false,
        })
        .await;
    }
}

/// Sends a request that generates `tokens` tokens.
async fn send(
    world: &mut World,
    client: &str,
    id: &str,
    model: &str,
    priority: Priority,
    tokens: u32,
) {
    let mut call: InferCall = serde_json::from_value(json!({
        "model": model, "request_id": id, "max_tokens": tokens, "input": {"prompt": "count"},
    }))
    .unwrap();
    call.priority = (priority == Priority::Batch).then_some(priority);
    let queen = QueenClient::new(&queen_url(world), Some(client.to_owned())).unwrap();
    let stream = queen.infer(&call).await.unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    world.spawn(async move {
        let mut stream = pin!(stream);
        while let Some(event) = stream.next().await {
            if sender.send(event.unwrap()).is_err() {
                return;
            }
        }
    });
    let seen = Vec::new();
    let events = Events { receiver, seen };
    world.get::<Sent>().0.insert(id.to_owned(), events);
}

fn events<'a>(world: &'a mut World, id: &str) -> &'a mut Events {
    let sent = world.get::<Sent>().0.get_mut(id);
    sent.expect("the request was sent")
}

fn queen_url(world: &World) -> String {
    world.daemon("queen").expect("a queen is running").url
}

fn is_token(event: &InferEvent) -> bool {
    matches!(event, InferEvent::Worker(StreamEvent::Token(_)))
}

fn is_waiting(event: &InferEvent) -> bool {
    matches!(event, InferEvent::Waiting(_))
}
