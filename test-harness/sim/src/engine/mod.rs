//! Servers that speak the protocols of other engines: field names, framing of streams, errors and
//! states are those of llama.cpp, vLLM, Ollama and OpenAI. The prompt says what they answer, see
//! [`script`].

mod llama_cpp;
mod ollama;
mod openai;
mod parts;
pub mod script;

use std::{
    fs::File,
    io::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub use parts::{connect_with_parts, serve_parts};
use script::{Answer, Step};

/// Protocol of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    LlamaCpp,
    Vllm,
    Ollama,
    Openai,
}

impl Protocol {
    /// Reads the name that users write.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "llama-cpp" => Self::LlamaCpp,
            "vllm" => Self::Vllm,
            "ollama" => Self::Ollama,
            "openai" => Self::Openai,
            _ => return None,
        })
    }
}

/// How the engine behaves.
#[derive(Debug)]
pub struct Options {
    /// Slots that llama.cpp's server reports.
    pub slots: u32,
    /// Time until the model is loaded.
    pub load: Duration,
    /// File that gets a line of JSON for each request, and for each client that disconnects.
    pub log: Option<File>,
    /// Key that requests must have.
    pub key: Option<String>,
}

/// The state of a running engine.
#[derive(Debug, Clone)]
pub(crate) struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    protocol: Protocol,
    started: Instant,
    load: Duration,
    key: Option<String>,
    log: Mutex<Option<File>>,
}

/// Serves an engine on a port of the loopback interface, until the process ends.
#[expect(clippy::print_stdout, reason = "the address is for the user")]
pub async fn serve(protocol: Protocol, port: u16, options: Options) -> io::Result<()> {
    if protocol == Protocol::Vllm {
        // vLLM listens when its model is loaded.
        tokio::time::sleep(options.load).await;
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    let engine = Engine(Arc::new(Inner {
        protocol,
        started: Instant::now(),
        load: options.load,
        key: options.key,
        log: Mutex::new(options.log),
    }));
    let routes = match protocol {
        Protocol::LlamaCpp => llama_cpp::routes(options.slots).merge(openai::routes()),
        Protocol::Vllm | Protocol::Openai => openai::routes().merge(openai::own_routes()),
        Protocol::Ollama => ollama::routes(),
    };
    let routes: Router = routes
        .layer(from_fn_with_state(engine.clone(), admit))
        .with_state(engine);
    axum::serve(listener, routes).await
}

/// Refuses requests without the key, and while llama.cpp loads.
async fn admit(State(engine): State<Engine>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let bearer = request.headers().get(header::AUTHORIZATION);
    let bearer = bearer
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if let Some(key) = &engine.0.key
        && bearer != format!("Bearer {key}")
    {
        let error = json!({"message": "Incorrect API key provided", "type": "invalid_request_error",
            "param": null, "code": "invalid_api_key"});
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": error}))).into_response();
    }
    let loads = engine.0.started.elapsed() < engine.0.load;
    if engine.0.protocol == Protocol::LlamaCpp && loads {
        let error = json!({"message": "Loading model", "type": "unavailable_error", "code": 503});
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"error": error})),
        )
            .into_response();
    }
    engine.note(&json!({"path": path}));
    next.run(request).await
}

impl Engine {
    pub fn protocol(&self) -> Protocol {
        self.0.protocol
    }

    /// Appends a line to the log.
    pub fn note(&self, line: &Value) {
        let mut log = self.0.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = &mut *log {
            let _ = writeln!(log, "{line}");
        }
    }

    /// Responds with the steps of an answer, which `write` converts to the text of the stream.
    pub fn stream(
        &self,
        kind: &'static str,
        answer: Answer,
        write: impl Fn(&Step, usize) -> String + Send + 'static,
    ) -> Response {
        let running = Running {
            engine: self.clone(),
            ended: false,
        };
        let steps = stream::unfold((answer, running, 0), move |(mut answer, mut running, n)| {
            let text = answer.take_step().map(|step| {
                running.ended = answer.is_empty();
                write(&step, n)
            });
            let pause = answer.pause();
            async move {
                let text = text?;
                tokio::time::sleep(pause).await;
                Some((Ok::<_, io::Error>(text), (answer, running, n + 1)))
            }
        });
        ([(header::CONTENT_TYPE, kind)], Body::from_stream(steps)).into_response()
    }
}

/// A running answer. Dropping it before its end is noted.
struct Running {
    engine: Engine,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.engine.note(&json!({"disconnected": true}));
        }
    }
}
