use std::net::IpAddr;

use clap::Args;
use daemon_shell::LogFilter;
use input_validation::{DeviceId, Generation, ModelRef, NodeName, WorkerId};
use worker_contract::limits::MAX_SLOTS;

/// The arguments that the worker contract defines.
#[derive(Debug, Clone, Args)]
pub struct WorkerArguments {
    /// Id of the worker, unique among the workers of the queen.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub worker_id: WorkerId,
    /// Model: a .gguf file or a directory with safetensors (mock: its settings).
    #[arg(long, value_name = "MODEL", allow_hyphen_values = true)]
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
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SLOTS)))]
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
    pub log: LogFilter,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        worker: WorkerArguments,
    }

    #[test]
    fn ids_and_models_may_begin_with_a_hyphen() {
        let line = "worker --worker-id -a --model -b --device CPU-0 --port 0 \
                    --queen-url http://127.0.0.1:1 --hive-id local --generation 1";
        let parsed = CommandLine::try_parse_from(line.split_whitespace());
        let worker = parsed.unwrap_or_else(|e| panic!("{e}")).worker;
        assert_eq!(
            (worker.worker_id.as_str(), worker.model.as_str()),
            ("-a", "-b")
        );
    }
}
