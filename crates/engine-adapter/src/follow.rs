//! Sends a request to the engine and forwards its output.

use diagnostics::{Code, Diagnostic};
use futures_util::{StreamExt as _, stream::BoxStream};
use http::{HeaderMap, Method};
use inference_execution::{
    RequestStream,
    requests::{
        Deadline, EventSender, RequestEnd, RequestTimes, Ticket, cancelled, channel, draw_seed,
        generation_expired,
    },
};
use rest_client::{CallError, RestClient};
use serde_json::Value;
use worker_contract::{FinishReason, InferRequest, StartedEvent, StreamEvent};

use crate::{
    accept::translate,
    adapter::Adapter,
    call::{Call, Framing},
    errors,
    generation::Generation,
    llama_cpp::lost_tokens,
    piece::{Piece, Update},
};

/// What the documents of a stream say.
type Documents = BoxStream<'static, Result<Vec<Update>, CallError>>;

/// What is needed to forward an output.
struct Output {
    adapter: Adapter,
    client: RestClient,
    finds_lost_tokens: bool,
    counts_prompt: bool,
    complete: Option<FinishReason>,
}

/// Accepts a request and returns its events.
pub(crate) async fn accept(
    adapter: &Adapter,
    request: InferRequest,
) -> Result<RequestStream, Diagnostic> {
    let times = RequestTimes::arrived_now();
    let deadline = request
        .deadline
        .map(Deadline::from_wall_clock)
        .transpose()?;
    let requests = adapter.requests();
    let ticket = requests.accept(&request.request_id, request.first_choice_id())?;
    let client = adapter.engine().client()?;
    let opening = open(adapter, &client, &request);
    let opened = tokio::select! {
        opened = opening => opened,
        error = interrupted(adapter, &ticket, deadline) => Err(error),
    };
    let (call, documents, seed, notes) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let error = explain(adapter, error).await;
            ticket.end(RequestEnd::from(&error));
            return Err(error);
        }
    };
    let started = StartedEvent {
        request_id: request.request_id.clone(),
        model: adapter.settings().alias.clone(),
        seed,
        prompt_tokens: call.prompt.len() as u32,
        prompt: if request.report_prompt {
            call.prompt
        } else {
            Vec::new()
        },
        cached_tokens: 0,
        sampling: request.sampling.values.or(&request.sampling_defaults),
        notes,
    };
    let (sender, stream) = channel(requests.clone());
    let generation = Generation::new(&request, started, times, call.splitter, call.repeated);
    let output = Output {
        adapter: adapter.clone(),
        client,
        finds_lost_tokens: call.finds_lost_tokens,
        counts_prompt: call.counts_prompt,
        complete: call.complete,
    };
    tokio::spawn(output.follow(ticket, sender, generation, documents, deadline));
    Ok(stream)
}

/// Translates a request and sends it. An output that is complete is not generated again.
async fn open(
    adapter: &Adapter,
    client: &RestClient,
    request: &InferRequest,
) -> Result<(Call, Documents, u64, Vec<String>), Diagnostic> {
    let seed = match request.sampling.seed {
        Some(seed) => seed,
        None => draw_seed()?,
    };
    let mut notes = Vec::new();
    let call = translate(adapter, client, request, seed, &mut notes).await?;
    let documents = if call.complete.is_some() {
        futures_util::stream::empty().boxed()
    } else {
        match call.framing {
            Framing::Events(read) => client
                .events(
                    Method::POST,
                    call.path,
                    Some(&call.body),
                    HeaderMap::new(),
                    parse_event,
                )
                .await?
                .map(move |event| event.map(|event| read(&event)))
                .boxed(),
            Framing::Tokens(read) => client
                .events(
                    Method::POST,
                    call.path,
                    Some(&call.body),
                    HeaderMap::new(),
                    read,
                )
                .await?
                .boxed(),
            Framing::Lines(read) => client
                .lines(call.path, &call.body, |line| {
                    serde_json::from_str::<Value>(line).map(Some)
                })
                .await?
                .map(move |line| line.map(|line| read(&line)))
                .boxed(),
        }
    };
    Ok((call, documents, seed, notes))
}

/// Parses an event of an engine. `[DONE]` is the last one of OpenAI's protocol.
fn parse_event(_name: &str, data: &str) -> serde_json::Result<Option<Value>> {
    if data.trim() == "[DONE]" {
        return Ok(None);
    }
    serde_json::from_str(data).map(Some)
}

/// Waits until the request is cancelled, its deadline passes, or all requests are ended.
async fn interrupted(adapter: &Adapter, ticket: &Ticket, deadline: Option<Deadline>) -> Diagnostic {
    let requests = adapter.requests();
    let mut changes = requests.changes();
    let ended = changes.wait_for(|_| ticket.is_cancelled() || requests.abort_reason().is_some());
    let expired = async {
        match deadline {
            Some(deadline) => tokio::time::sleep(deadline.remaining()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = ended => requests.abort_reason().cloned().unwrap_or_else(cancelled),
        () = expired => generation_expired(),
    }
}

/// An error of the engine has its cause in the exit of its process, if that exited.
async fn explain(adapter: &Adapter, error: Diagnostic) -> Diagnostic {
    match error.code {
        Code::WorkerCrashed => adapter.engine().explain(error).await,
        _ => error,
    }
}

impl Output {
    /// Forwards the output until it ends, however it ends. Dropping `documents` closes the
    /// connection, by which the engine cancels the request.
    async fn follow(
        self,
        ticket: Ticket,
        sender: EventSender,
        mut generation: Generation,
        documents: Documents,
        deadline: Option<Deadline>,
    ) {
        let result = {
            let forward = self.forward(&sender, &mut generation, documents);
            tokio::select! {
                result = forward => result,
                () = sender.abandoned() => Err(cancelled()),
                error = interrupted(&self.adapter, &ticket, deadline) => Err(error),
            }
        };
        match result {
            Ok(reason) => {
                let (last, end) = generation.end(reason);
                let counters = &self.adapter.requests().counters;
                let (prompt, cached) = generation.prompt_counts();
                counters.add_prompt_tokens(prompt);
                counters.add_cached_tokens(cached);
                ticket.end(RequestEnd::Completed);
                let last = last.map(StreamEvent::Token);
                for event in last.into_iter().chain(end) {
                    sender.send_when_ready(event).await;
                }
            }
            Err(error) => {
                let error = explain(&self.adapter, error).await;
                ticket.end(RequestEnd::from(&error));
                sender.send_when_ready(StreamEvent::Error(error)).await;
            }
        }
    }

    async fn forward(
        &self,
        sender: &EventSender,
        generation: &mut Generation,
        mut documents: Documents,
    ) -> Result<FinishReason, Diagnostic> {
        let first = self.begin(sender, generation, &mut documents).await;
        if let Some(reason) = self.complete {
            return Ok(reason);
        }
        let mut documents = futures_util::stream::iter(first).chain(documents);
        let mut finish = None;
        while let Some(document) = documents.next().await {
            for update in document? {
                match update {
                    Update::Piece(piece) => {
                        if self.piece(sender, generation, piece).await? {
                            return Ok(FinishReason::Stop);
                        }
                    }
                    Update::Counts(counts) => generation.set_counts(counts),
                    Update::Finish(reason) => finish = Some(reason),
                    Update::Failed(error) => return Err(error),
                }
            }
        }
        // An engine that was killed may close its connections properly.
        finish.ok_or_else(errors::stream_ended)
    }

    /// Sends the first event. Returns the first document if that was needed for it.
    async fn begin(
        &self,
        sender: &EventSender,
        generation: &mut Generation,
        documents: &mut Documents,
    ) -> Option<Result<Vec<Update>, CallError>> {
        generation.times().record_start();
        let mut first = None;
        if self.counts_prompt {
            first = documents.next().await;
        }
        if let Some(Ok(document)) = &first {
            for update in document {
                if let Update::Counts(counts) = update {
                    generation.set_counts(*counts);
                }
            }
        }
        sender.send_when_ready(generation.start()).await;
        first
    }

    /// Forwards a part of the output. Returns whether a stop sequence has ended the output.
    async fn piece(
        &self,
        sender: &EventSender,
        generation: &mut Generation,
        piece: Piece,
    ) -> Result<bool, Diagnostic> {
        let requests = self.adapter.requests();
        let mut pieces = Vec::new();
        // The server does not report tokens that end within a character.
        if self.finds_lost_tokens
            && let (Some(number), Some(last)) = (piece.number, piece.token)
            && number > generation.received() + 1
            && !piece.text.is_ascii()
        {
            let lost = lost_tokens(&self.client, &piece.text, last).await;
            pieces.extend(lost.into_iter().map(|token| Piece {
                token: Some(token),
                ..Piece::default()
            }));
        }
        pieces.push(piece);
        for piece in pieces {
            requests.record_step();
            requests.counters.token_generated();
            let mut events = Vec::new();
            let stopped = generation.push(piece, &mut events)?;
            for event in events {
                if let Some(elapsed) = generation.times().record_token() {
                    sender.set_time_to_first_token(elapsed);
                }
                sender.send_when_ready(StreamEvent::Token(event)).await;
            }
            if stopped {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
