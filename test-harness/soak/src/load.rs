//! Clients that send requests one after the other until they are stopped.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use diagnostics::Diagnostic;
use futures_util::StreamExt as _;
use input_validation::{ModelRef, NodeName};
use queen_contract::{Assigned, InferCall, InferEvent, QueenClient};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use worker_contract::{InferInput, InferRequest, StreamEvent};

use crate::{LIMIT, REQUEST_LIMIT};

/// Clients whose requests require a node.
pub(crate) const PINNED_CLIENTS: u32 = 2;
/// Clients whose requests require no node.
const FREE_CLIENTS: u32 = 8;
/// Pause of a client after a request that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// How a request ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    /// With this text.
    Complete(String),
    Failed(Diagnostic),
    /// Without a terminal event, or with two of them.
    Broken(String),
    /// Not at all within the limit.
    Unended,
}

/// A request that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// The node that it required.
    pub(crate) node: Option<NodeName>,
    /// The workers that it ran on, in order.
    pub(crate) workers: Vec<Assigned>,
    pub(crate) end: End,
    pub(crate) started: Instant,
    pub(crate) took: Duration,
}

/// Requests that have ended so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Completed, of those that require a node.
    pub(crate) pinned_complete: u64,
    /// Did not complete, of those that require a node.
    pub(crate) pinned_failed: u64,
    /// Completed, of those that require no node.
    pub(crate) free_complete: u64,
    /// Did not complete, of those that require no node.
    pub(crate) free_failed: u64,
}

impl Ended {
    fn add(&mut self, outcome: &Outcome) {
        let is_complete = matches!(outcome.end, End::Complete(_));
        *match (outcome.node.is_some(), is_complete) {
            (true, true) => &mut self.pinned_complete,
            (true, false) => &mut self.pinned_failed,
            (false, true) => &mut self.free_complete,
            (false, false) => &mut self.free_failed,
        } += 1;
    }
}

/// Clients that send requests.
pub(crate) struct Load {
    stop: CancellationToken,
    clients: JoinSet<Result<Vec<Outcome>>>,
    ended: watch::Sender<Ended>,
}

impl Load {
    /// Starts the clients. Those that require no node are so many more than those that require
    /// `node` that some of their requests run on it as well.
    pub(crate) fn start(client: &QueenClient, model: &ModelRef, node: &NodeName) -> Self {
        let mut load = Self {
            stop: CancellationToken::new(),
            clients: JoinSet::new(),
            ended: watch::Sender::default(),
        };
        let number = Arc::new(AtomicU64::new(0));
        for index in 0..PINNED_CLIENTS + FREE_CLIENTS {
            let node = (index < PINNED_CLIENTS).then(|| node.clone());
            let (client, model, number) = (client.clone(), model.clone(), Arc::clone(&number));
            let (stop, ended) = (load.stop.clone(), load.ended.clone());
            load.clients.spawn(async move {
                let mut outcomes = Vec::new();
                while !stop.is_cancelled() {
                    let id = format!("soak-{}", number.fetch_add(1, Ordering::Relaxed));
                    let outcome = send(&client, &call(&id, &model, node.as_ref())?).await;
                    ended.send_modify(|ended| ended.add(&outcome));
                    if !matches!(outcome.end, End::Complete(_)) {
                        sleep(PAUSE_AFTER_FAILURE).await;
                    }
                    outcomes.push(outcome);
                }
                Ok(outcomes)
            });
        }
        load
    }

    pub(crate) fn ended(&self) -> Ended {
        *self.ended.borrow()
    }

    /// Waits until what has ended is as wanted.
    pub(crate) async fn until(&self, what: &str, is_wanted: impl Fn(&Ended) -> bool) -> Result<()> {
        let mut ended = self.ended.subscribe();
        let reached = timeout(LIMIT, ended.wait_for(is_wanted)).await;
        reached
            .map(drop)
            .with_context(|| format!("not in time: {what}: {:?}", self.ended()))
    }

    /// Lets the clients finish their requests.
    pub(crate) async fn finish(mut self) -> Result<Vec<Outcome>> {
        self.stop.cancel();
        let mut outcomes = Vec::new();
        while let Some(client) = self.clients.join_next().await {
            outcomes.extend(client??);
        }
        Ok(outcomes)
    }
}

pub(crate) fn call(id: &str, model: &ModelRef, node: Option<&NodeName>) -> Result<InferCall> {
    let mut request = InferRequest::new(id.parse()?, InferInput::Prompt("count".into()));
    request.sampling.seed = Some(1);
    Ok(InferCall {
        model: model.clone(),
        backend: None,
        priority: None,
        node: node.cloned(),
        request,
    })
}

/// Sends a request and reads its events to the end.
pub(crate) async fn send(client: &QueenClient, call: &InferCall) -> Outcome {
    let started = Instant::now();
    let mut workers = Vec::new();
    let end = timeout(REQUEST_LIMIT, read(client, call, &mut workers)).await;
    Outcome {
        node: call.node.clone(),
        workers,
        end: end.unwrap_or(End::Unended),
        started,
        took: started.elapsed(),
    }
}

async fn read(client: &QueenClient, call: &InferCall, workers: &mut Vec<Assigned>) -> End {
    let events = match client.infer(call).await {
        Ok(events) => events,
        Err(error) => return End::Failed(error.into_diagnostic()),
    };
    let mut events = pin!(events);
    let mut text = String::new();
    let mut end = None;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => return End::Broken(error.to_string()),
        };
        if end.is_some() {
            return End::Broken(format!("{event:?} follows the end"));
        }
        match event {
            InferEvent::Assigned(assigned) => workers.push(assigned),
            InferEvent::Worker(StreamEvent::Token(token)) => text.push_str(&token.t),
            InferEvent::Worker(StreamEvent::End(_)) => {
                end = Some(End::Complete(std::mem::take(&mut text)));
            }
            InferEvent::Worker(StreamEvent::Error(error)) => end = Some(End::Failed(error)),
            _ => {}
        }
    }
    end.unwrap_or_else(|| End::Broken("the events ended without a terminal one".into()))
}
