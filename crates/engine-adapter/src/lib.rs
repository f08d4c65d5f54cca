//! Other engines behind the worker contract.
//!
//! [`Engine`] starts an engine or attaches to one, and [`load`] returns a
//! [`ModelService`](worker_service::ModelService) that translates. `llama_cpp`, `openai` and
//! `ollama` convert a request to the JSON of an engine and its stream to `piece`s; `generation`
//! turns pieces into the events of the contract; `follow` forwards them; `guard` and `process` run
//! the engine; `engine` and `load` watch it.

mod accept;
mod adapter;
mod call;
mod client;
mod command;
mod embed;
mod engine;
mod errors;
mod facts;
mod follow;
mod gbnf;
mod generation;
mod guard;
mod json;
mod kind;
mod llama_cpp;
mod load;
mod ollama;
mod openai;
mod openai_stream;
mod piece;
mod process;
mod restarts;
mod self_test;
mod service;
mod thinking;
mod values;

pub use client::{ApiKey, KEY_VARIABLE, api_key};
pub use engine::{AdapterSettings, Engine, EngineSource};
pub use guard::{EXEC_ENGINE, GUARD_ENGINE, exec_engine, guard_engine};
pub use kind::model_ref;
pub use load::load;
pub use self_test::{TEST_ENGINE, self_test, test_engine};
