//! Serves the requests of the worker through the engine.

use std::time::Duration;

use diagnostics::Diagnostic;
use futures_util::future::BoxFuture;
use inference_execution::{RequestStream, RuntimeCounts, RuntimeStatus};
use input_validation::RequestId;
use serde_json::{Value, json};
use tokio::sync::watch;
use worker_contract::{
    Capability, EmbedRequest, EmbedResponse, EngineKind, InferInput, InferRequest, SamplingValues,
    TokenizeRequest,
};
use worker_service::ModelService;

use crate::{
    adapter::Adapter,
    embed::embed,
    follow::accept,
    json::{text, token_ids},
    llama_cpp::Tokens,
    thinking::Thinking,
    values::{message, tool},
};

/// Time limit of short calls.
const LIMIT: Option<Duration> = Some(Duration::from_secs(30));

impl Adapter {
    async fn tokens(&self, request: TokenizeRequest) -> Result<Vec<u32>, Diagnostic> {
        if !self.facts().can(Capability::Tokenize) {
            return Err(self.unsupported("tokenizing", "input"));
        }
        let client = self.engine().client()?;
        if self.kind() == EngineKind::Vllm {
            let mut body = json!({"model": self.facts().model});
            match &request.input {
                InferInput::Tokens(tokens) => return Ok(tokens.clone()),
                InferInput::Prompt(prompt) => body["prompt"] = json!(prompt),
                InferInput::Messages(messages) => {
                    body["messages"] = messages.iter().map(message).collect();
                    if !request.tools.is_empty() {
                        body["tools"] = request.tools.iter().map(tool).collect();
                    }
                }
            }
            let answer: Value = client.post("/tokenize", &body, LIMIT).await?;
            return Ok(token_ids(&answer["tokens"]));
        }
        let TokenizeRequest {
            input,
            tools,
            reasoning,
            template_variables,
        } = request;
        let request = InferRequest {
            reasoning,
            template_variables,
            ..InferRequest::new("tokenize".parse()?, input)
        };
        let (facts, alias) = (self.facts(), &self.settings().alias);
        let format = facts.format.as_ref();
        let thinking = Thinking::new(&request, format, facts.reasons, alias, &mut Vec::new())?;
        let tokens = Tokens {
            client: &client,
            facts,
            request: &request,
            output_limit: None,
        };
        tokens.only(&tools, &thinking).await
    }

    async fn text(&self, tokens: Vec<u32>) -> Result<String, Diagnostic> {
        if !self.facts().can(Capability::Tokenize) {
            return Err(self.unsupported("detokenizing", "tokens"));
        }
        let body = json!({"tokens": tokens, "model": self.facts().model});
        let client = self.engine().client()?;
        let answer: Value = client.post("/detokenize", &body, LIMIT).await?;
        // vLLM names the text `prompt`.
        let mut found = text(&answer, "content");
        found.push_str(answer["prompt"].as_str().unwrap_or_default());
        Ok(found)
    }
}

impl ModelService for Adapter {
    fn submit(&self, request: InferRequest) -> BoxFuture<'_, Result<RequestStream, Diagnostic>> {
        let id = request.request_id.clone();
        Box::pin(async move {
            let accepted = accept(self, request).await;
            accepted.map_err(|error| error.correlation_id(id.as_str()))
        })
    }

    fn embed(&self, request: EmbedRequest) -> BoxFuture<'_, Result<EmbedResponse, Diagnostic>> {
        Box::pin(embed(self, request))
    }

    fn tokenize(&self, request: TokenizeRequest) -> BoxFuture<'_, Result<Vec<u32>, Diagnostic>> {
        Box::pin(self.tokens(request))
    }

    fn detokenize(&self, tokens: Vec<u32>) -> BoxFuture<'_, Result<String, Diagnostic>> {
        Box::pin(self.text(tokens))
    }

    fn is_available(&self) -> bool {
        self.engine().is_running()
    }

    fn cancel(&self, id: &RequestId) {
        self.requests().cancel(id);
    }

    fn drain(&self) {
        self.requests().drain();
    }

    fn idle(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut changes = self.changes();
            let _ = changes.wait_for(|_| self.requests().is_idle()).await;
        })
    }

    fn abort(&self, error: Diagnostic) {
        self.requests().abort(error);
    }

    fn status(&self) -> RuntimeStatus {
        self.requests().status()
    }

    fn counts(&self) -> RuntimeCounts {
        self.requests().counters.snapshot()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.requests().changes()
    }

    fn failure(&self) -> Option<Diagnostic> {
        self.requests().failure().cloned()
    }

    fn since_last_step(&self) -> Option<Duration> {
        self.requests().since_last_step()
    }

    fn context_length(&self) -> u32 {
        self.facts().context
    }

    fn sampling(&self) -> SamplingValues {
        SamplingValues::default()
    }

    fn engine_memory_bytes(&self) -> u64 {
        self.engine().memory_bytes()
    }

    fn capabilities(&self) -> Vec<Capability> {
        self.facts().capabilities.clone()
    }

    /// The metrics of llama.cpp (with its option `--metrics`) and of vLLM.
    fn engine_metrics(&self) -> BoxFuture<'_, String> {
        Box::pin(async {
            let Ok(client) = self.engine().client() else {
                return String::new();
            };
            if !matches!(self.kind(), EngineKind::LlamaCpp | EngineKind::Vllm) {
                return String::new();
            }
            let text = client.get_text("/metrics").await.unwrap_or_default();
            // The end mark of OpenMetrics belongs to the end of the worker's own metrics.
            let lines = text.lines().filter(|line| *line != "# EOF");
            lines.flat_map(|line| [line, "\n"]).collect()
        })
    }
}
