//! The command line.

use std::path::PathBuf;

use clap::{
    Args, Parser,
    builder::{PossibleValuesParser, TypedValueParser},
};
use worker_contract::EngineKind;
use worker_process::WorkerArguments;

/// An rbee worker that starts another engine, or attaches to one, and translates for it.
///
/// In the words of the command, these placeholders are replaced: {port} by a free port that the
/// adapter chooses, {model} by the value of `--model`, {context} by the context length (0 if the
/// engine decides), {slots} by the number of slots, {threads} by the number of threads. The command
/// runs without a shell. An example:
///
/// adapter-worker-rbee --engine llama-cpp … -- llama-server -m {model} --port {port} -np {slots}
#[derive(Debug, Parser)]
#[command(name = "adapter-worker-rbee", version)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub worker: Option<WorkerArguments>,
    #[command(flatten)]
    pub engine: Option<EngineArguments>,
    /// Start a small engine, infer with it, crash it and end it, and exit.
    #[arg(long, exclusive = true)]
    self_test: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EngineArguments {
    /// Protocol of the engine.
    #[arg(long, value_name = "KIND", value_parser = engine_kind())]
    pub engine: EngineKind,
    /// URL of a running engine.
    #[arg(long, value_name = "URL", conflicts_with = "command")]
    pub attach: Option<String>,
    /// File with the API key of the engine [default: the variable RBEE_ENGINE_API_KEY].
    #[arg(long, value_name = "PATH")]
    pub engine_key_file: Option<PathBuf>,
    /// Name of the model in requests to the engine [default: the value of `--model`].
    #[arg(long, value_name = "NAME")]
    pub engine_model: Option<String>,
    /// Command that starts the engine.
    #[arg(last = true, required_unless_present = "attach")]
    pub command: Vec<String>,
}

fn engine_kind() -> impl TypedValueParser<Value = EngineKind> {
    PossibleValuesParser::new(EngineKind::ALL.map(EngineKind::name))
        .try_map(|name| name.parse::<EngineKind>())
}
