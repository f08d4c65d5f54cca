//! Reads the headers of GGUF and safetensors files as the hostile input they are: every
//! count, length, offset and dimension is checked against the file before it is used, and
//! nothing is allocated by what a header merely claims.
//!
//! [`inspect`] tells what a model is without reading its weights; [`Gguf`] and
//! [`Safetensors`] give the tensors of a file that the caller holds in memory.

#![warn(missing_docs)]

mod config;
mod cursor;
mod experts;
mod family;
mod gguf;
mod header;
mod inspect;
mod rope_scaling;
mod safetensors;
mod sliding_window;
mod tensor_type;
mod value;

pub use config::{family_of_config, header_from_config};
pub use experts::Experts;
pub use family::text_tensor_name;
pub use gguf::{Gguf, TensorInfo};
pub use header::{Biases, ModelFormat, ModelHeader};
pub use inspect::{inspect, read_limited, shard_files};
pub use rope_scaling::{LongRopeFactors, RopeScaling};
pub use safetensors::{ElementType, Safetensors, SafetensorsTensor};
pub use sliding_window::{SlidingWindow, WindowedLayers};
pub use tensor_type::TensorType;
pub use value::{Array, Value};

use std::path::Path;

use diagnostics::{Code, Diagnostic, escape};

/// A damaged file: what is wrong and where.
fn invalid(offset: u64, message: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidModelFile,
        format!("damaged model file at byte {offset}: {message}"),
    )
    .hint("the file is cut short or damaged: fetch it again")
    .detail("offset", offset)
}

/// The same error, with the file that it is about in front.
#[must_use]
pub fn about_file(mut error: Diagnostic, path: &Path) -> Diagnostic {
    error.message = format!("{}: {}", escape(&path.display().to_string()), error.message);
    error
}
