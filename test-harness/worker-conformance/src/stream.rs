use std::pin::Pin;

use eventsource_stream::Eventsource as _;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use serde_json::Value;
use worker_contract::{EndEvent, StartedEvent, StreamEvent, TokenEvent};

use crate::verdict::{Checked, chain, expect, miss};

type Events = Pin<Box<dyn Stream<Item = Result<(String, String), String>> + Send>>;

/// A stream whose event `started` was received.
pub struct Opened {
    pub started: StartedEvent,
    events: Events,
}

/// A complete stream.
#[derive(Debug)]
pub struct Output {
    pub started: StartedEvent,
    pub tokens: Vec<TokenEvent>,
    /// The last event.
    pub last: Last,
}

#[derive(Debug)]
pub enum Last {
    End(EndEvent),
    /// The body of an event `error`.
    Error(Value),
}

impl Opened {
    pub async fn start(response: reqwest::Response) -> Checked<Self> {
        let status = response.status();
        let content_type = response.headers().get("content-type").cloned();
        let is_stream = content_type
            .as_ref()
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with("text/event-stream"));
        if status != 200 || !is_stream {
            let body = response.text().await.unwrap_or_default();
            return Err(miss(
                "status 200 and `content-type: text/event-stream`",
                format_args!("{status}, {content_type:?}: {body}"),
            ));
        }
        let events = response
            .bytes_stream()
            .eventsource()
            .map(|event| match event {
                Ok(event) => Ok((event.event, event.data)),
                Err(error) => Err(chain(&error)),
            });
        let mut events: Events = Box::pin(events);
        match next(&mut events).await? {
            Some(StreamEvent::Started(started)) => Ok(Self { started, events }),
            other => Err(miss("the event `started` first", format_args!("{other:?}"))),
        }
    }

    /// Receives one token. `None`: the output has ended.
    pub async fn token(&mut self) -> Checked<Option<TokenEvent>> {
        match next(&mut self.events).await? {
            Some(StreamEvent::Token(token)) => Ok(Some(token)),
            _ => Ok(None),
        }
    }

    /// Receives what has arrived. Returns whether the stream has ended.
    pub fn has_ended(&mut self) -> bool {
        while let Some(event) = self.events.next().now_or_never() {
            let Some(Ok((name, _))) = event else {
                return true;
            };
            if name == "end" || name == "error" {
                return true;
            }
        }
        false
    }

    /// Receives the rest of the stream and checks the order of its events.
    pub async fn finish(mut self) -> Checked<Output> {
        let mut tokens = Vec::new();
        let mut metrics = 0;
        let last = loop {
            match next(&mut self.events).await? {
                Some(StreamEvent::Token(token)) => tokens.push(token),
                Some(StreamEvent::Metrics(_)) => metrics += 1,
                Some(StreamEvent::End(end)) => break Last::End(end),
                Some(StreamEvent::Error(error)) => break Last::Error(to_json(&error)),
                Some(StreamEvent::Started(_)) => {
                    return Err(miss("one event `started`", "another event `started`"));
                }
                None => {
                    let count = tokens.len();
                    return Err(miss(
                        "an event `end` or `error` as the last one",
                        format_args!("the stream ended after {count} tokens"),
                    ));
                }
            }
        };
        let after = next(&mut self.events).await?;
        expect(
            after.is_none(),
            "nothing after `end` or `error`",
            format_args!("{after:?}"),
        )?;
        expect(
            metrics == 1 || matches!(last, Last::Error(_)),
            "one event `metrics` before `end`",
            format_args!("{metrics} events `metrics`"),
        )?;
        Ok(Output {
            started: self.started,
            tokens,
            last,
        })
    }
}

impl Output {
    pub fn text(&self) -> String {
        self.tokens.iter().map(|token| token.t.as_str()).collect()
    }

    pub fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.id).collect()
    }

    /// The event `end`, or a failure if the request failed.
    pub fn end(&self) -> Checked<&EndEvent> {
        match &self.last {
            Last::End(end) => Ok(end),
            Last::Error(error) => Err(miss("the event `end`", format_args!("error {error}"))),
        }
    }

    /// Fails unless the stream ended with an error with this code.
    pub fn error(&self, code: &str) -> Checked {
        let received = match &self.last {
            Last::Error(error) if error["code"] == code => return Ok(()),
            Last::Error(error) => format!("error {error}"),
            Last::End(end) => format!("end {}", to_json(end)),
        };
        Err(miss(
            format_args!("the event `error` with {code}"),
            received,
        ))
    }
}

fn to_json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Returns the next event that this version knows.
async fn next(events: &mut Events) -> Checked<Option<StreamEvent>> {
    loop {
        let Some(event) = events.next().await else {
            return Ok(None);
        };
        let (name, data) = event.map_err(|error| miss("an event stream that ends", error))?;
        let parsed = StreamEvent::read_sse(&name, &data).map_err(|error| {
            let expected = format!("the event `{name}` of the contract");
            miss(expected, format_args!("{error}: {data}"))
        })?;
        if let Some(event) = parsed {
            return Ok(Some(event));
        }
    }
}
