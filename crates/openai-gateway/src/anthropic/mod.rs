//! Anthropic's Messages API.

mod error_body;
mod events;
mod limits;
mod messages;
mod models;
mod partial_object;
mod request;
mod schemas;
mod thinking;
mod writer;

pub use error_body::AnthropicErrorBody;
pub use events::AnthropicEvent;
pub use models::{AnthropicModel, AnthropicModelList};
pub use request::{AnthropicRequest, AnthropicTokenCountRequest, parse, parse_token_count};
pub use writer::{AnthropicMessage, AnthropicTokenCount, AnthropicUsage};

#[cfg(test)]
mod tests;
