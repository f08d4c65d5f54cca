//! Tool calls of an output: their ids, and the form that is required of them.

mod id;
mod shape;
mod syntax;

pub(crate) use id::CallIds;
pub(crate) use shape::{Shape, required_shape};
