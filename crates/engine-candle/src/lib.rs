//! The engine on candle; the only crate that names candle or CUDA.
//!
//! One implementation computes Llama, Mistral, Mixtral, Qwen2, Qwen3 and its mixtures of
//! experts, Gemma 1 to 3, Phi-3 and Phi-4; what tells them apart is a row of the table in
//! `architecture.rs`.
//!
//! [`load`] turns a model on disk into a [`CandleEngine`] and its codec. On the CPU every
//! row of a step is computed in the same order whatever else is in the step: results of a
//! batch equal those alone bit for bit, for any split into chunks and any number of threads.

mod aligned;
mod architecture;
mod attention;
mod backend;
mod cpu;
mod engine;
mod feed_forward;
mod kv;
mod layout;
mod linear;
mod load;
mod mapping;
mod matrix;
mod mixture;
mod model;
mod norm;
mod plan;
mod pooling;
mod rope;
mod self_test;
mod tensor_names;
mod tensors;
mod threads;
mod weights;

pub use engine::CandleEngine;
pub use load::{ComputeDevice, LoadOptions, Loaded, load};
pub use self_test::self_test;
pub use threads::thread_environment;
