use std::{
    pin::Pin,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, bail};
use cluster::Cluster;
use futures_util::{Stream, StreamExt as _};
use input_validation::WorkerId;
use queen_contract::{InferCall, InferEvent};
use rest_client::CallError;
use serde_json::json;
use worker_contract::StreamEvent;

/// The tokens of one request.
pub struct Tokens {
    events: Pin<Box<dyn Stream<Item = Result<InferEvent, CallError>> + Send>>,
    worker: Option<WorkerId>,
}

impl Tokens {
    pub async fn request(queen: &Cluster, model: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id = format!("failover-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let call: InferCall = serde_json::from_value(json!({
            "model": model, "request_id": id, "input": {"prompt": "hello"}, "sampling": {"seed": 1},
        }))?;
        Ok(Self {
            events: Box::pin(queen.client.infer(&call).await?),
            worker: None,
        })
    }

    /// Awaits the next token.
    pub async fn next(&mut self) -> Result<()> {
        loop {
            match self.events.next().await.context("the stream ended")?? {
                InferEvent::Assigned(assigned) => self.worker = Some(assigned.worker),
                InferEvent::Worker(StreamEvent::Token(_)) => return Ok(()),
                InferEvent::Worker(StreamEvent::Error(error)) => bail!("{error}"),
                InferEvent::Worker(StreamEvent::End(_)) => bail!("the output ended"),
                _ => {}
            }
        }
    }

    /// The worker that the request was last assigned to.
    pub fn worker(&self) -> Result<WorkerId> {
        self.worker.clone().context("the request has no worker")
    }

    /// Awaits the end of the output.
    pub async fn finish(mut self) -> Result<()> {
        while let Some(event) = self.events.next().await {
            if let InferEvent::Worker(StreamEvent::Error(error)) = event? {
                bail!("{error}");
            }
        }
        Ok(())
    }
}
