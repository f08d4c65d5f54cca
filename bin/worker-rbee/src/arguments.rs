use std::net::IpAddr;

use clap::Args;
use input_validation::{DeviceId, Generation, ModelRef, NodeName, WorkerId};

/// The arguments that the worker contract defines.
#[derive(Debug, Clone, Args)]
pub(crate) struct WorkerArguments {
    /// Id of the worker, unique among the workers of the queen.
    #[arg(long, value_name = "ID")]
    pub worker_id: WorkerId,
    /// Model: a .gguf file or a directory with safetensors (mock: its settings).
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Device that computes.
    #[arg(long, value_name = "DEVICE")]
    pub device: DeviceId,
    /// Port to listen on; 0 selects any free port.
    #[arg(long)]
    pub port: u16,
    /// URL of the queen that receives heartbeats.
    #[arg(long, value_name = "URL")]
    pub queen_url: String,
    /// Name of the node.
    #[arg(long, value_name = "NODE")]
    pub hive_id: NodeName,
    /// Generation of the worker: a number that increases with every spawn.
    #[arg(long, value_name = "N")]
    pub generation: Generation,
    /// Context length in tokens, prompt and output together [default: that of the model].
    #[arg(long, value_name = "TOKENS")]
    pub context_length: Option<u32>,
    /// Maximum number of running requests.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slots: Option<u32>,
    /// Size of the KV cache.
    #[arg(long, value_name = "BYTES")]
    pub kv_cache_bytes: Option<u64>,
    /// Number of compute threads [default: all processors available to the process].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Compute every prompt completely instead of sharing common prefixes, for measurements.
    #[arg(long)]
    pub no_prefix_cache: bool,
    /// Model reference that clients use [default: derived from `--model`].
    #[arg(long, value_name = "REF")]
    pub alias: Option<ModelRef>,
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// Log level, or a filter such as `info,worker_service=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub log: String,
}
