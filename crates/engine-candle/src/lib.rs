//! The engine on candle; the only crate that names candle or CUDA.
//!
//! [`load`] turns a model on disk into a [`CandleEngine`] and its codec. On the CPU every
//! row of a step is computed in the same order whatever else is in the step: results of a
//! batch equal those alone bit for bit, for any split into chunks and any number of threads.

mod aligned;
mod architecture;
mod attention;
mod engine;
mod kv;
mod linear;
mod load;
mod mapping;
mod matrix;
mod model;
mod plan;
mod rope;
mod self_test;
mod threads;
mod weights;

pub use engine::CandleEngine;
pub use load::{ComputeDevice, LoadOptions, Loaded, load};
pub use self_test::self_test;
pub use threads::thread_environment;
