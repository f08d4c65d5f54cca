//! Every family of models, as tiny random models that the tests write themselves, against
//! candle-transformers' own models and a plain reference.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod candle_models;
mod compare;
mod damage;
mod experts;
mod gemma;
mod gguf_file;
mod invariance;
mod logits;
mod phi;
mod plain;
mod refusals;
mod tiny_model;
