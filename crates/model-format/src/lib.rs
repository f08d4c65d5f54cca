//! Reads the headers of GGUF and safetensors files, treating them as untrusted input: every
//! count, length, offset and dimension is checked against the file before use, and no
//! allocation depends on a size that a header merely claims.
//!
//! [`inspect`] describes a model without reading its weights; [`Gguf`] and [`Safetensors`]
//! locate the tensors of a file that the caller holds in memory.

#![warn(missing_docs)]

mod architectures;
mod config;
mod cursor;
mod errors;
mod experts;
mod family;
mod fit;
mod gguf;
mod header;
mod inspect;
mod metadata;
mod recommended;
mod rope_scaling;
mod safetensors;
mod sliding_window;
mod split;
mod tensor_type;
mod value;

pub use architectures::{WeightFormat, supported_architectures};
pub use config::{describe_safetensors, family_of_config, header_from_config};
pub use errors::about_file;
pub use experts::Experts;
pub use family::text_tensor_name;
pub use fit::{KV_BLOCK_TOKENS, KvType, MemoryNeeds};
pub use gguf::{ForeignTensor, Gguf, Prefix, TensorInfo};
pub use header::{Biases, ModelHeader};
pub use inspect::{
    describe, index_shards, inspect, read_limited, recommended_sampling, shard_files,
};
pub use metadata::ModelMetadata;
pub use recommended::RecommendedSampling;
pub use rope_scaling::{LongRopeFactors, RopeScaling};
pub use safetensors::{ElementType, ForeignElement, Safetensors, SafetensorsTensor};
pub use sliding_window::{SlidingWindow, WindowedLayers};
pub use split::{GgufFile, PartName, gguf_parts, parse_gguf_parts};
pub use tensor_type::{ForeignType, TensorType};
pub use value::{Array, Value};
