use std::{sync::Arc, time::Duration};

use diagnostics::Diagnostic;
use futures_util::future::BoxFuture;
use inference_execution::{RequestStream, Runtime, RuntimeCounts, RuntimeStatus};
use input_validation::RequestId;
use tokio::sync::watch;
use worker_contract::{
    Capability, EmbedRequest, EmbedResponse, InferRequest, SamplingValues, TokenizeRequest,
};

use crate::errors;

/// A loaded model that serves requests: an engine of this process, or another program.
pub trait ModelService: Send + Sync {
    /// Accepts a request for generated text and returns its events.
    fn submit(&self, request: InferRequest) -> BoxFuture<'_, Result<RequestStream, Diagnostic>>;
    /// Computes embeddings. Dropping the future cancels the request.
    fn embed(&self, request: EmbedRequest) -> BoxFuture<'_, Result<EmbedResponse, Diagnostic>>;
    /// Converts an input to tokens as [`Self::submit`] does.
    fn tokenize(&self, request: TokenizeRequest) -> BoxFuture<'_, Result<Vec<u32>, Diagnostic>>;
    /// Converts tokens to text.
    fn detokenize(&self, tokens: Vec<u32>) -> BoxFuture<'_, Result<String, Diagnostic>>;
    /// Whether requests can be served now. An engine that starts again cannot.
    fn is_available(&self) -> bool {
        true
    }
    /// Cancels a request and its other choices.
    fn cancel(&self, id: &RequestId);
    /// Refuses new requests from now on.
    fn drain(&self);
    /// Waits until no request is open.
    fn idle(&self) -> BoxFuture<'_, ()>;
    /// Drains and ends all open requests with `error`.
    fn abort(&self, error: Diagnostic);
    /// Returns the current load.
    fn status(&self) -> RuntimeStatus;
    /// Returns the totals since the start.
    fn counts(&self) -> RuntimeCounts;
    /// Returns a channel that changes whenever the service becomes busy, ready, idle, draining
    /// or lost.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Returns the error that the model was lost with. The process must exit then.
    fn failure(&self) -> Option<Diagnostic>;
    /// Returns the time since the engine completed a step.
    fn since_last_step(&self) -> Option<Duration>;
    /// Returns the maximum length of prompt and output together, in tokens.
    fn context_length(&self) -> u32;
    /// Returns the parameters of the sampler that the model recommends.
    fn sampling(&self) -> SamplingValues;
    /// Returns the resident memory of other processes that compute for this one, in bytes.
    fn engine_memory_bytes(&self) -> u64 {
        0
    }
    /// Returns the features of the model.
    fn capabilities(&self) -> Vec<Capability>;
    /// Returns further metrics in the text format of Prometheus, without the last line.
    fn engine_metrics(&self) -> BoxFuture<'_, String> {
        Box::pin(async { String::new() })
    }
}

/// Tokenizing long texts blocks, so that it runs on a thread of its own.
impl ModelService for Runtime {
    fn submit(&self, request: InferRequest) -> BoxFuture<'_, Result<RequestStream, Diagnostic>> {
        let (runtime, id) = (self.clone(), request.request_id.clone());
        Box::pin(async move {
            tokio::task::spawn_blocking(move || Runtime::submit(&runtime, request))
                .await
                .map_err(|e| errors::submit_panicked(&id, e))?
        })
    }

    fn embed(&self, request: EmbedRequest) -> BoxFuture<'_, Result<EmbedResponse, Diagnostic>> {
        let (runtime, id) = (self.clone(), request.request_id.clone());
        Box::pin(async move {
            let mut reply = tokio::task::spawn_blocking(move || Runtime::embed(&runtime, &request))
                .await
                .map_err(|e| errors::submit_panicked(&id, e))??;
            let vectors = reply.vectors().await;
            Ok(EmbedResponse {
                vectors: vectors.map_err(|error| error.correlation_id(id.as_str()))?,
                prompt_tokens: reply.prompt_tokens(),
                model: self.model().clone(),
                request_id: id,
            })
        })
    }

    fn tokenize(&self, request: TokenizeRequest) -> BoxFuture<'_, Result<Vec<u32>, Diagnostic>> {
        let runtime = self.clone();
        Box::pin(blocking(move || Runtime::tokenize(&runtime, &request)))
    }

    fn detokenize(&self, tokens: Vec<u32>) -> BoxFuture<'_, Result<String, Diagnostic>> {
        let runtime = self.clone();
        Box::pin(blocking(move || Runtime::detokenize(&runtime, &tokens)))
    }

    fn cancel(&self, id: &RequestId) {
        Runtime::cancel(self, id);
    }

    fn drain(&self) {
        Runtime::drain(self);
    }

    fn idle(&self) -> BoxFuture<'_, ()> {
        Box::pin(Runtime::idle(self))
    }

    fn abort(&self, error: Diagnostic) {
        Runtime::abort(self, error);
    }

    fn status(&self) -> RuntimeStatus {
        Runtime::status(self)
    }

    fn counts(&self) -> RuntimeCounts {
        Runtime::counts(self)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        Runtime::changes(self)
    }

    fn failure(&self) -> Option<Diagnostic> {
        Runtime::failure(self).cloned()
    }

    fn since_last_step(&self) -> Option<Duration> {
        Runtime::since_last_step(self)
    }

    fn context_length(&self) -> u32 {
        Runtime::context_length(self)
    }

    fn sampling(&self) -> SamplingValues {
        self.description().sampling.clone()
    }

    fn capabilities(&self) -> Vec<Capability> {
        let mut capabilities = vec![
            Capability::Stream,
            Capability::Continue,
            Capability::Logprobs,
            Capability::Tokenize,
        ];
        if self.codec().tool_format().is_some() {
            capabilities.push(Capability::Tools);
        }
        // A constrained output needs an end token to end.
        if !self.codec().end_tokens().is_empty() {
            capabilities.push(Capability::Constraints);
        }
        if self.computes_embeddings() {
            capabilities.push(Capability::Embed);
        }
        capabilities
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Diagnostic> + Send + 'static,
) -> Result<T, Diagnostic> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(errors::tokenizer_panicked)?
}

/// A model service that its handlers share.
pub type SharedService = Arc<dyn ModelService>;
