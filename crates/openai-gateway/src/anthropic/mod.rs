//! Anthropic's Messages API.

mod error_body;
mod messages;
mod request;
mod writer;

pub use error_body::AnthropicErrorBody;
pub use request::{AnthropicRequest, parse, parse_token_count};
pub use writer::{AnthropicMessage, AnthropicTokenCount, AnthropicUsage};

#[cfg(test)]
mod tests;
