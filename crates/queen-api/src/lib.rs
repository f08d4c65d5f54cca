//! The queen's HTTP interface: every route, the guards in front of it, the error format of
//! each dialect, and the OpenAPI document.
//!
//! Handlers parse the request, call [`Relay`](request_relay::Relay),
//! [`Nodes`](queen_nodes::Nodes) or [`Dispatcher`](queen_dispatch::Dispatcher), and write the
//! response. They make no decisions of their own.

mod anthropic;
mod binaries;
mod catalog;
mod control;
mod cors;
mod decisions;
mod deployments;
mod dialect;
mod embeddings;
mod errors;
mod further_inputs;
mod guards;
mod inference;
mod joining;
mod metrics;
mod native;
mod node_models;
mod nodes;
mod ollama;
mod ollama_store;
mod openai;
mod openai_responses;
mod openapi;
mod policy;
mod reach;
mod respond;
mod responses;
mod routes;
mod state;
mod tokens;
mod workers;
mod wrong_url;

pub use cors::CorsOrigins;
pub use openapi::openapi;
pub use reach::QueenReach;
pub use routes::{ApiConfig, router};
pub use state::{Api, HEADER_GRACE};
