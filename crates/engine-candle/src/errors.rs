//! Errors of this crate: diagnostics while loading, candle errors and engine errors.

use std::{fmt, io, path::Path};

use candle_core::Error;
use diagnostics::{Code, Diagnostic, escape};
use inference_execution::{BlockId, EngineError, SequenceId};
use model_format::TensorType;

/// A model that the engine would compute incorrectly.
pub(crate) fn unsupported(what: impl fmt::Display) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedModel,
        format!("the engine does not support {what}"),
    )
    .hint("use a text model of the Llama, Mistral, Mixtral, Qwen, Gemma or Phi family")
}

fn invalid_file(message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(Code::InvalidModelFile, message).hint("download or convert the model again")
}

pub(crate) fn missing_norm_epsilon() -> Diagnostic {
    invalid_file("the header has no norm epsilon")
}

pub(crate) fn invalid_rope(problem: impl fmt::Display) -> Diagnostic {
    invalid_file(format!("invalid rotary embedding: {problem}"))
}

pub(crate) fn missing_tensor(name: &str) -> Diagnostic {
    invalid_file(format!("the model has no tensor `{}`", escape(name)))
}

pub(crate) fn wrong_shape(name: &str, found: &[u64], expected: &[u64]) -> Diagnostic {
    invalid_file(format!(
        "tensor `{}` has shape {found:?}, expected {expected:?}",
        escape(name)
    ))
}

pub(crate) fn truncated_tensor(name: &str) -> Diagnostic {
    invalid_file(format!(
        "tensor `{}` has fewer bytes than its shape requires",
        escape(name)
    ))
}

pub(crate) fn unexpected_json(error: &serde_json::Error) -> Diagnostic {
    invalid_file(format!("unexpected JSON: {error}"))
}

pub(crate) fn not_a_float_tensor(name: &str, kind: TensorType) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedQuantization,
        format!(
            "tensor `{}` has type {}, expected F32, F16 or BF16",
            escape(name),
            kind.name()
        ),
    )
    .hint("quantize the model again with a current converter")
}

pub(crate) fn packing(name: &str, error: &Error) -> Diagnostic {
    device(format!("tensor `{}`: {}", escape(name), brief(error)))
}

pub(crate) fn vector(error: &Error) -> Diagnostic {
    device(brief(error))
}

pub(crate) fn kv_cache(error: &Error) -> Diagnostic {
    device(format!("KV cache: {}", brief(error)))
}

/// An error of candle without its backtrace, which has many lines.
pub(crate) fn brief(error: &Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// An error of a device while the model loads.
fn device(message: String) -> Diagnostic {
    // Drivers write `CUDA_ERROR_OUT_OF_MEMORY` or `out of memory`.
    let words = message.to_lowercase().replace('_', " ");
    if !words.contains("out of memory") {
        return Diagnostic::internal(message);
    }
    Diagnostic::new(Code::InsufficientVram, message).hint(
        "stop other workers of the device, choose a smaller quantization or context length, or \
         use a node with more memory",
    )
}

pub(crate) fn unreadable_file(path: &Path, error: &io::Error) -> Diagnostic {
    let path = escape(&path.display().to_string());
    if error.kind() == io::ErrorKind::NotFound {
        return Diagnostic::new(Code::ModelNotFound, format!("{path} does not exist"))
            .hint("check the path of the model");
    }
    Diagnostic::new(
        Code::StateUnusable,
        format!("{path} cannot be read: {error}"),
    )
    .hint("check the permissions of the file")
}

pub(crate) fn context_length(requested: u32, trained: u32) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!(
            "a context of {requested} tokens is not supported: the model was trained with {trained}"
        ),
    )
    .hint(format!("request a context of 1 to {trained} tokens"))
}

/// The code of missing memory.
fn memory_code(of_gpu: bool) -> Code {
    if of_gpu {
        Code::InsufficientVram
    } else {
        Code::InsufficientRam
    }
}

pub(crate) fn model_memory(needed: u64, weights: u64, available: u64, of_gpu: bool) -> Diagnostic {
    Diagnostic::new(
        memory_code(of_gpu),
        format!(
            "the model needs {needed} bytes of memory, {weights} for its weights and the rest for \
             its KV cache, but only {available} are available"
        ),
    )
    .hint("free memory, or choose a smaller quantization or context")
    .detail("need_bytes", needed)
    .detail("available_bytes", available)
}

pub(crate) fn kv_cache_memory(tokens: u32, needed: u64, kv_cache: u64, of_gpu: bool) -> Diagnostic {
    Diagnostic::new(
        memory_code(of_gpu),
        format!(
            "one sequence of {tokens} tokens needs {needed} bytes of KV cache, but the cache has \
             {kv_cache}"
        ),
    )
    .hint("request a shorter context or a larger KV cache")
    .detail("need_bytes", needed)
    .detail("kv_cache_bytes", kv_cache)
}

pub(crate) fn self_test(model: &str, problem: impl fmt::Display) -> Diagnostic {
    Diagnostic::internal(format!("self-test of {model}: {problem}"))
        .hint("report a bug: this build computes incorrect results on this processor")
}

pub(crate) fn matrix_size(kind: TensorType, rows: usize, columns: usize, bytes: usize) -> Error {
    Error::msg(format!(
        "{bytes} bytes do not hold a {rows} x {columns} matrix of type {}",
        kind.name()
    ))
}

pub(crate) fn not_on_cpu() -> Error {
    Error::msg("the weights are not on the CPU")
}

pub(crate) fn not_contiguous() -> Error {
    Error::msg("the operand is not contiguous")
}

pub(crate) fn operand_shape(rows: usize, columns: usize, expected_columns: usize) -> Error {
    Error::msg(format!(
        "cannot multiply an operand of shape [{rows}, {columns}] by a matrix of {expected_columns} \
         columns"
    ))
}

pub(crate) fn missing_row(row: u32, rows: usize) -> Error {
    Error::msg(format!(
        "row {row} does not exist in a matrix of {rows} rows"
    ))
}

pub(crate) fn buffer_size(values: usize, rows: usize, columns: usize) -> Error {
    Error::msg(format!(
        "a buffer of {values} values does not hold {rows} x {columns}"
    ))
}

/// A fault of the device cannot be distinguished from its loss, so it ends the worker.
pub(crate) fn step(error: &Error) -> EngineError {
    match error {
        Error::WithBacktrace { inner, .. } => step(inner),
        Error::Cuda(_) | Error::Metal(_) => EngineError::Device(brief(error)),
        _ => EngineError::Step(brief(error)),
    }
}

pub(crate) fn missing_block(from: BlockId, to: BlockId, blocks: u32) -> EngineError {
    EngineError::Step(format!(
        "cannot copy block {} to {}: the cache has {blocks} blocks",
        from.0, to.0
    ))
}

pub(crate) fn invalid_chunk(sequence: SequenceId, problem: &ChunkError) -> EngineError {
    EngineError::Step(format!("sequence {}: {problem}", sequence.0))
}

/// Why a chunk of a batch cannot be computed.
pub(crate) enum ChunkError {
    Empty,
    Token { token: u32, vocab_size: u32 },
    ContextLength { positions: u64, context_length: u32 },
    BlockCount { positions: u64, blocks: usize },
    Block { block: u32, blocks: u32 },
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the chunk has no tokens"),
            Self::Token { token, vocab_size } => {
                write!(
                    f,
                    "token {token} is outside the vocabulary of {vocab_size} tokens"
                )
            }
            Self::ContextLength {
                positions,
                context_length,
            } => write!(
                f,
                "{positions} positions exceed the context of {context_length} tokens"
            ),
            Self::BlockCount { positions, blocks } => {
                write!(f, "{positions} positions do not fit in {blocks} blocks")
            }
            Self::Block { block, blocks } => {
                write!(f, "block {block} is outside the cache of {blocks} blocks")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::backtrace::Backtrace;

    use super::*;

    #[test]
    fn a_fault_of_the_device_is_one_with_a_backtrace_as_well() {
        let fault = || Error::Cuda("CUDA_ERROR_LAUNCH_FAILED\n at a line".into());
        let traced = |error| Error::WithBacktrace {
            inner: Box::new(error),
            backtrace: Box::new(Backtrace::force_capture()),
        };
        for error in [fault(), traced(fault())] {
            let EngineError::Device(text) = step(&error) else {
                panic!("{error}");
            };
            assert_eq!(text, "CUDA_ERROR_LAUNCH_FAILED");
        }
        let other = traced(Error::Msg("shape mismatch".into()));
        assert!(matches!(step(&other), EngineError::Step(text) if text == "shape mismatch"));
    }
}
