//! Tests every model family with tiny random models, against candle-transformers and a reference
//! implementation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod candle_models;
mod compare;
mod damaged;
mod experts;
mod gemma;
mod gguf_file;
mod invariance;
mod logits;
mod phi;
mod reference;
mod tiny_model;
mod unsupported;
