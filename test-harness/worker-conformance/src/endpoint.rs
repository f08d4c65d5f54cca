use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    response::Answer,
    stream::{Opened, Output},
    verdict::{Checked, chain, miss, not_applicable},
};

/// Time within which a slot must be free after its request ended.
const FREE_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// A text that invites a long output.
const LONG: &str = "Count from one to one thousand, one number per line: one, two,";
/// A text that invites an output of some words.
const SHORT: &str = "Write a haiku about the quick brown fox.";

/// A worker, reached over HTTP.
#[derive(Clone)]
pub struct Endpoint {
    http: Client,
    pub base: String,
    token: Option<String>,
    requests: Arc<AtomicU64>,
    /// Whether inputs are messages: many models end a text without a chat template at once.
    chats: bool,
}

impl Endpoint {
    pub fn new(base: String, token: Option<String>) -> reqwest::Result<Self> {
        Ok(Self {
            http: Client::builder().no_proxy().build()?,
            base,
            token,
            requests: Arc::default(),
            chats: false,
        })
    }

    /// Uses messages as inputs from now on if the model has a chat template.
    pub async fn choose_inputs(&mut self) -> Checked {
        let input = json!({"messages": [{"role": "user", "content": SHORT}]});
        let request = self.infer_request("input", json!({"input": input, "stream": false}));
        self.chats = self.post("/v1/infer", &request).await?.status == 200;
        Ok(())
    }

    /// Returns a text as an input.
    pub fn input(&self, text: &str) -> Value {
        if self.chats {
            json!({"messages": [{"role": "user", "content": text}]})
        } else {
            json!({"prompt": text})
        }
    }

    /// Prepares a request with the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.public(method, path);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Prepares a request without a token.
    pub fn public(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Checked<Answer> {
        let request = self.request(method, path);
        send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    pub async fn get_public(&self, path: &str) -> Checked<Answer> {
        send(self.public(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Checked<Answer> {
        self.call(Method::POST, path, Some(body)).await
    }

    pub async fn info(&self) -> Checked<Value> {
        let answer = self.call(Method::GET, "/info", None).await?;
        answer.status(200)?;
        Ok(answer.json)
    }

    /// Whether the worker declares a capability.
    pub async fn can(&self, capability: &str) -> Checked<bool> {
        let info = self.info().await?;
        let mut capabilities = info["capabilities"].as_array().into_iter().flatten();
        Ok(capabilities.any(|declared| declared == capability))
    }

    /// Returns a greedy request of `case` for at most 16 tokens, with the fields of `more`.
    pub fn infer_request(&self, case: &str, more: Value) -> Value {
        let number = self.requests.fetch_add(1, SeqCst);
        let mut request = json!({
            "request_id": format!("{case}-{number}"),
            "input": self.input(SHORT),
            "max_tokens": 16,
            "sampling": {"temperature": 0.0},
        });
        merge(&mut request, more);
        request
    }

    /// Returns a request of `case` whose output is as long as the context permits.
    pub fn long_request(&self, case: &str) -> Value {
        self.infer_request(
            case,
            json!({
                "input": self.input(LONG), "max_tokens": null,
                // At a high temperature, an end token is unlikely.
                "sampling": {"temperature": 4.0, "seed": 1},
            }),
        )
    }

    /// Sends a request and returns the response, whose body was not read.
    pub async fn send_infer(&self, request: &Value) -> Checked<Response> {
        let request = self.request(Method::POST, "/v1/infer").json(request);
        let sent = request.send().await;
        sent.map_err(|error| miss("an event stream", chain(&error)))
    }

    /// Sends a request and returns its stream after the event `started`.
    pub async fn open(&self, request: &Value) -> Checked<Opened> {
        Opened::start(self.send_infer(request).await?).await
    }

    /// Sends a request and returns its complete output.
    pub async fn infer(&self, request: &Value) -> Checked<Output> {
        self.open(request).await?.finish().await
    }

    /// Opens a long request that is still running when its stream begins.
    pub async fn hold(&self, case: &str) -> Checked<(String, Opened)> {
        let request = self.long_request(case);
        let id = request["request_id"].as_str().unwrap_or_default();
        Ok((id.to_owned(), self.open(&request).await?))
    }

    /// Cancels a request for cleaning up, whether or not the worker does so.
    pub async fn abandon(&self, id: &str, opened: Opened) {
        drop(opened);
        let _ = self
            .call(Method::DELETE, &format!("/v1/infer/{id}"), None)
            .await;
    }

    /// Waits until all slots are free.
    pub async fn all_free(&self) -> Checked {
        let limit = Instant::now() + FREE_LIMIT;
        loop {
            let info = self.info().await?;
            if info["slots_free"] == info["slots_total"] && info["queue_depth"] == 0 {
                return Ok(());
            }
            if Instant::now() > limit {
                return Err(miss(
                    format_args!("all slots free within {} s", FREE_LIMIT.as_secs()),
                    format_args!(
                        "slots_free {} of {}, queue_depth {}",
                        info["slots_free"], info["slots_total"], info["queue_depth"]
                    ),
                ));
            }
            sleep(POLL).await;
        }
    }

    /// Returns the number of slots, if a test can occupy all of them.
    pub async fn slots(&self) -> Checked<usize> {
        const MAX: u64 = 16;
        match self.info().await?["slots_total"].as_u64() {
            Some(slots @ 1..=MAX) => Ok(slots as usize),
            slots => Err(not_applicable(format_args!(
                "the worker has {slots:?} slots; the test occupies up to {MAX}"
            ))),
        }
    }
}

/// Replaces the fields of `target` by those of `more`; null removes a field.
fn merge(target: &mut Value, more: Value) {
    let (Some(target), Value::Object(more)) = (target.as_object_mut(), more) else {
        return;
    };
    for (name, value) in more {
        if value.is_null() {
            target.remove(&name);
        } else {
            target.insert(name, value);
        }
    }
}

/// Sends a request and reads the whole response.
pub async fn send(request: RequestBuilder) -> Checked<Answer> {
    let response = request.send().await;
    Answer::read(response.map_err(|error| miss("an HTTP response", chain(&error)))?).await
}
