//! Converts text to tokens and back: tokenizers, chat templates, incremental detokenization.
//!
//! A [`Codec`] is built once per model and is immutable afterwards; it is `Send + Sync`.

mod chat;
mod codec;
mod control;
mod errors;
mod gguf;
mod huggingface;
mod pre_tokenizer;
mod reasoning_marks;
mod repair;
mod template;
mod token_table;
mod utf8_stream;

pub use chat::{Chat, RenderedChat};
pub use codec::{Codec, CodecSettings};
pub use tool_calls::ToolFormat;
pub use utf8_stream::Utf8Stream;
