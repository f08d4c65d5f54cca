use std::net::IpAddr;

use clap::Args;
use input_validation::{DeviceId, Generation, ModelRef, NodeName, WorkerId};

/// What the worker contract passes on the command line.
#[derive(Debug, Clone, Args)]
pub(crate) struct WorkerArguments {
    /// Name of the worker, unique in the queen's realm.
    #[arg(long, value_name = "ID")]
    pub worker_id: WorkerId,
    /// The model: a .gguf file or a folder with safetensors (mock: its settings).
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Where to compute.
    #[arg(long, value_name = "DEVICE")]
    pub device: DeviceId,
    /// Where to listen; 0 takes any free port.
    #[arg(long)]
    pub port: u16,
    /// Where heartbeats go.
    #[arg(long, value_name = "URL")]
    pub queen_url: String,
    /// Name of the node.
    #[arg(long, value_name = "NODE")]
    pub hive_id: NodeName,
    /// Which spawn of this worker it is.
    #[arg(long, value_name = "N")]
    pub generation: Generation,
    /// Longest prompt plus answer, in tokens; absent, what the model was made for.
    #[arg(long, value_name = "TOKENS")]
    pub context_length: Option<u32>,
    /// Requests that run at once.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slots: Option<u32>,
    /// Memory for the KV cache.
    #[arg(long, value_name = "BYTES")]
    pub kv_cache_bytes: Option<u64>,
    /// Threads that compute; absent, as many as this process may use.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Compute every prompt from its first token, for measuring: what requests have in common
    /// is not shared.
    #[arg(long)]
    pub no_prefix_cache: bool,
    /// The model as clients name it; absent, made from `--model`.
    #[arg(long, value_name = "REF")]
    pub alias: Option<ModelRef>,
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// What is logged: a level, or a filter as `info,worker_service=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub log: String,
}
