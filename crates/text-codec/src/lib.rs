//! Text to tokens and back: tokenizers, chat templates, streaming detokenisation.
//!
//! A [`Codec`] is made once for a model and then only read; it is `Send + Sync`.

mod codec;
mod gguf;
mod huggingface;
mod pieces;
mod pre_tokenizer;
mod python_json;
mod template;
mod tools;
mod utf8_stream;

pub use codec::{Codec, Settings};
pub use tools::ToolStyle;
pub use utf8_stream::Utf8Stream;

use diagnostics::{Code, Diagnostic, excerpt};

/// A tokenizer that is damaged or contradicts itself.
fn damaged(message: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!(
            "the model's tokenizer cannot be used: {}",
            excerpt(&message.to_string(), 300)
        ),
    )
    .hint("fetch the model again; if that does not help, its tokenizer is faulty")
}

/// A tokenizer of a kind that this program does not have.
fn unsupported(what: &str, found: &str, supported: &[&str]) -> Diagnostic {
    Diagnostic::new(
        Code::UnsupportedModel,
        format!("{what} `{}` is not supported", excerpt(found, 80)),
    )
    .hint(format!("supported are: {}", supported.join(", ")))
}
