//! The errors of this crate.

use std::{fmt::Display, io, path::Path, time::Duration};

use diagnostics::{Code, Diagnostic, escape, excerpt};
use input_validation::ModelRef;
use serde_json::Value;

const LOG_HINT: &str = "the worker's log has the engine's output: `rbee-keeper worker logs`";

// The command line.

pub(crate) fn no_command() -> Diagnostic {
    Diagnostic::new(Code::ConfigInvalid, "the command of the engine is empty")
        .hint("write the command after `--`, or attach to a running engine with `--attach URL`")
}

pub(crate) fn unknown_placeholder(name: &str) -> Diagnostic {
    let message = format!(
        "the command has an unknown placeholder {{{}}}",
        excerpt(name, 40)
    );
    Diagnostic::new(Code::ConfigInvalid, message)
        .hint("use `{model}`, `{port}`, `{context}`, `{slots}` and `{threads}`")
}

pub(crate) fn no_alias(model: &str) -> Diagnostic {
    let message = format!(
        "no model reference can be derived from \"{}\"",
        excerpt(model, 80)
    );
    Diagnostic::new(Code::InvalidModelRef, message)
        .hint("name the model for clients with `--alias`, such as `--alias hf:owner/name`")
}

/// The URL may contain a secret and is not shown.
pub(crate) fn invalid_url(cause: &dyn Display) -> Diagnostic {
    let message = format!("the URL of `--attach` is invalid: {cause}");
    Diagnostic::new(Code::ConfigInvalid, message).hint(
        "use `http://HOST:PORT` or `https://HOST`, and a file with the key: `--engine-key-file`",
    )
}

pub(crate) fn key_without_tls() -> Diagnostic {
    let message = "the API key would be sent to another machine without encryption";
    Diagnostic::new(Code::ConfigInvalid, message).hint("attach to an `https://` URL")
}

pub(crate) fn key_not_read(path: &Path, cause: &io::Error) -> Diagnostic {
    let path = escape(&path.to_string_lossy());
    let message = format!("cannot read the API key of the engine from \"{path}\": {cause}");
    Diagnostic::new(Code::ConfigInvalid, message).hint("correct `--engine-key-file`")
}

pub(crate) fn no_key(file: Option<&Path>) -> Diagnostic {
    let source = match file {
        Some(path) => format!("\"{}\"", escape(&path.to_string_lossy())),
        None => "RBEE_ENGINE_API_KEY".to_owned(),
    };
    let message = format!("{source} is not an API key: one line without spaces");
    Diagnostic::new(Code::ConfigInvalid, message).hint("write the key, and nothing else")
}

pub(crate) fn no_client(cause: impl Display) -> Diagnostic {
    Diagnostic::internal(format!("cannot create an HTTP client: {cause}"))
}

// Starting the engine, and losing it.

pub(crate) fn not_started(program: &str, cause: impl Display) -> Diagnostic {
    let message = format!("cannot start the engine \"{}\": {cause}", escape(program));
    Diagnostic::new(Code::WorkerStartFailed, message)
        .hint("check the path of the program in the command")
}

pub(crate) fn no_thread(cause: impl Display) -> Diagnostic {
    Diagnostic::internal(format!("cannot start a thread for the engine: {cause}"))
}

pub(crate) fn no_port(cause: impl Display) -> Diagnostic {
    Diagnostic::internal(format!("cannot find a free port for the engine: {cause}"))
}

/// `lines` are the last lines that the engine wrote, escaped.
pub(crate) fn exited(how: &str, lines: &str) -> Diagnostic {
    let message = if lines.is_empty() {
        format!("the engine exited: {how}, without output")
    } else {
        format!("the engine exited: {how}; its last lines: {lines}")
    };
    Diagnostic::new(Code::WorkerCrashed, message).hint(LOG_HINT)
}

pub(crate) fn no_progress(limit: Duration, lines: &str) -> Diagnostic {
    let message = format!(
        "the engine is not ready and wrote nothing for {} s; its last lines: {lines}",
        limit.as_secs()
    );
    Diagnostic::new(Code::LoadingTimeout, message)
        .hint("check the options of the engine's command in the worker's log")
}

pub(crate) fn not_reachable(url: &str, cause: impl Display) -> Diagnostic {
    let message = format!("the engine at {} does not respond: {cause}", escape(url));
    Diagnostic::new(Code::WorkerCrashed, message).hint("start the engine, or correct `--attach`")
}

pub(crate) fn no_model<'a>(model: &str, names: impl Iterator<Item = &'a str>) -> Diagnostic {
    let names: Vec<String> = names.take(10).map(|name| excerpt(name, 80)).collect();
    let message = format!(
        "the engine has no model \"{}\", but: {}",
        excerpt(model, 80),
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    );
    Diagnostic::new(Code::ModelNotFound, message)
        .hint("name the model as the engine does with `--engine-model`")
}

/// The engine is starting again.
pub(crate) fn starting() -> Diagnostic {
    Diagnostic::new(Code::NotReady, "the engine is starting again")
        .hint("try again when `GET /ready` returns 200")
        .detail("retry_after_seconds", 1)
}

pub(crate) fn stream_ended() -> Diagnostic {
    let message = "the engine closed the stream before the output was complete";
    Diagnostic::new(Code::WorkerCrashed, message).hint(LOG_HINT)
}

pub(crate) fn unexpected(what: &str) -> Diagnostic {
    let message = format!(
        "the engine sent an unexpected response: {}",
        excerpt(what, 200)
    );
    Diagnostic::new(Code::WorkerCrashed, message).hint("check the version of the engine")
}

pub(crate) fn not_repeated(index: u32) -> Diagnostic {
    let message = format!(
        "the output cannot be continued: the engine generates another token {index} than before"
    );
    Diagnostic::new(Code::WorkerCrashed, message).hint("send the request again")
}

// Errors that the engine reports.

/// Reads the body of an error response: `{"error": {"message"}}` of OpenAI, llama.cpp and vLLM,
/// `{"message"}` of older versions of vLLM, `{"error": "…"}` of Ollama.
pub(crate) fn read(status: u16, body: &str) -> Option<Diagnostic> {
    let body: Value = serde_json::from_str(body).ok()?;
    let error = match &body["error"] {
        Value::Null => &body,
        error => error,
    };
    let message = error["message"].as_str().or(error.as_str())?;
    Some(reported(status, message, error))
}

/// An error that the engine reports in a stream.
pub(crate) fn in_stream(error: &Value) -> Diagnostic {
    let status = error["code"]
        .as_u64()
        .and_then(|code| u16::try_from(code).ok());
    let message = error["message"].as_str().or(error.as_str());
    reported(
        status.unwrap_or(500),
        message.unwrap_or("no message"),
        error,
    )
}

fn reported(status: u16, text: &str, error: &Value) -> Diagnostic {
    let shown = excerpt(text, 400);
    let refused = format!("the engine refused the request: {shown}");
    let is_about_context = error["type"] == "exceed_context_size_error"
        || error["code"] == "context_length_exceeded"
        || ["maximum context length", "exceeds the available context"]
            .iter()
            .any(|words| text.contains(words));
    match status {
        400..=499 if is_about_context => Diagnostic::new(Code::ContextLengthExceeded, refused)
            .hint("shorten the prompt or lower `max_tokens`")
            .param("input"),
        401 | 403 => Diagnostic::new(
            Code::WorkerCrashed,
            format!("the engine refused the API key: {shown}"),
        )
        .hint("correct the key in `--engine-key-file` or RBEE_ENGINE_API_KEY"),
        503 if text.contains("oading") => Diagnostic::new(
            Code::NotReady,
            format!("the engine loads its model: {shown}"),
        )
        .detail("retry_after_seconds", 1),
        429 | 503 => busy(&shown),
        501 => Diagnostic::new(Code::UnsupportedParameter, refused)
            .hint("use another engine for the model"),
        400..=499 => {
            Diagnostic::new(Code::InvalidRequest, refused).hint("change what the message names")
        }
        _ => Diagnostic::new(Code::WorkerCrashed, format!("the engine failed: {shown}"))
            .hint(LOG_HINT),
    }
}

fn busy(shown: &str) -> Diagnostic {
    Diagnostic::new(Code::AllSlotsBusy, format!("the engine is busy: {shown}"))
        .hint("try again later")
        .detail("retry_after_seconds", 1)
}

// Requests that the adapter refuses.

/// `what` is the name of a feature.
pub(crate) fn unsupported(engine: &str, what: &str, param: &str) -> Diagnostic {
    let message = format!("the engine {engine} does not support {what}");
    Diagnostic::new(Code::UnsupportedParameter, message)
        .hint(format!(
            "leave `{param}` out, or use another engine for the model"
        ))
        .param(param)
}

pub(crate) fn invalid_regex(cause: &dyn Display) -> Diagnostic {
    let message = format!(
        "the regular expression cannot be used: {}",
        excerpt(&cause.to_string(), 300)
    );
    Diagnostic::new(Code::InvalidRequest, message).param("constraint")
}

pub(crate) fn impossible_schema() -> Diagnostic {
    let message = "no output matches the JSON schema `false`";
    Diagnostic::new(Code::InvalidRequest, message).param("constraint")
}

pub(crate) fn messages_as_input() -> Diagnostic {
    Diagnostic::new(Code::InvalidRequest, "an input of embeddings is messages").param("inputs")
}

pub(crate) fn no_embeddings(model: &ModelRef) -> Diagnostic {
    let message = format!("the engine computes no embeddings with the model {model}");
    Diagnostic::new(Code::UnsupportedModel, message).param("model")
}

pub(crate) fn self_test_failed(what: &str) -> Diagnostic {
    Diagnostic::internal(format!("self-test failed: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errors_of_all_engines_have_stable_codes() {
        for (status, body, code) in [
            (
                400,
                r#"{"error": {"code": 400, "message": "request (9 tokens) exceeds the available context size (8 tokens), try increasing it", "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8}}"#,
                Code::ContextLengthExceeded,
            ),
            (
                400,
                r#"{"object": "error", "message": "This model's maximum context length is 4096 tokens.", "code": 400}"#,
                Code::ContextLengthExceeded,
            ),
            (
                400,
                r#"{"error": {"message": "no", "type": "BadRequestError"}}"#,
                Code::InvalidRequest,
            ),
            (
                503,
                r#"{"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}"#,
                Code::NotReady,
            ),
            (
                503,
                r#"{"error": "server busy, please try again.  maximum pending requests exceeded"}"#,
                Code::AllSlotsBusy,
            ),
            (
                429,
                r#"{"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}"#,
                Code::AllSlotsBusy,
            ),
            (
                401,
                r#"{"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}"#,
                Code::WorkerCrashed,
            ),
            (500, r#"{"error": "\u001b[1mpanic"}"#, Code::WorkerCrashed),
        ] {
            let error = read(status, body).unwrap();
            assert_eq!(error.code, code, "{body}");
            assert!(!error.message.contains('\u{1b}'), "{error}");
        }
        assert!(read(502, "<html>").is_none());
    }
}
