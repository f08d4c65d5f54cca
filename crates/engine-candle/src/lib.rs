//! Inference engine built on candle; the only crate that depends on candle or CUDA.
//!
//! A single implementation covers Llama, Mistral, Mixtral, Qwen2, Qwen3, Qwen3-MoE, Gemma 1 to 3,
//! Phi-3 and Phi-4; their differences are rows of the table in `architecture.rs`.
//!
//! [`load`] turns a model on disk into a [`CandleEngine`] and its codec for a [`ComputeDevice`]. On the
//! CPU, each row of a
//! step is computed in an order that does not depend on the rest of the step: batched results
//! equal unbatched ones bit for bit, for any split into chunks and any number of threads.

mod aligned;
mod architecture;
mod attention;
mod backend;
#[cfg(test)]
mod backend_tests;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod cuda_errors;
mod device;
mod engine;
mod errors;
mod feed_forward;
mod fused_tensors;
mod gated;
mod kv;
mod linear;
mod load;
mod mapping;
mod matrix;
mod memory;
mod mixture;
mod model;
mod norm;
mod options;
mod plan;
mod pooling;
#[cfg(any(test, feature = "cuda"))]
mod probe;
mod pseudo_random;
mod rope;
mod self_test;
mod tensor_names;
mod tensors;
mod threads;
mod tiny_models;
mod weights;

pub use device::ComputeDevice;
#[cfg(feature = "cuda")]
pub use device::CudaGpu;
pub use engine::CandleEngine;
pub use load::{LoadedModel, load};
pub use options::LoadOptions;
pub use self_test::self_test;
pub use threads::thread_environment;
