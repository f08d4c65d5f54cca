use std::path::PathBuf;

use clap::Args;
use input_validation::{Backend, EngineName, ModelRef, NodeName, whole_number};
use queen_contract::DeploymentSpec;

use crate::{
    model,
    values::{DrainArg, parse, with_hint},
};

const EXAMPLES: &str = "Examples:
  rbee-keeper deploy builtin:haiku
  rbee-keeper deploy qwen3:0.6b --min 1 --max 3 --node attic --node desk
  rbee-keeper deploy hf:org/large-GGUF:Q4_K_M --split attic,desk
  rbee-keeper deploy --file models.toml --only

A file has a table for each deployment:
  [[deployment]]
  model = \"builtin:haiku\"
  min_workers = 1             # always running; 0: started by the first request
  max_workers = 2             # requests that wait start further workers
  nodes = [\"attic\", \"desk\"]  # any node if absent
  split = [\"attic\", \"desk\"]  # instead of nodes: one worker on all of them together
  backend = \"cuda\"
  engine = \"llama-cpp\"
  context_length = 8192
  slots = 4
  keep_alive_seconds = 300    # for workers beyond the minimum
  priority = 1";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Deploy {
    /// Model: a name such as builtin:haiku or hf:org/repo, which is fetched if it is missing, or a
    /// path
    #[arg(required_unless_present = "file", value_parser = |text: &str| model::parse(text).map_err(with_hint))]
    pub(crate) model: Option<ModelRef>,
    /// Create or replace the deployments that this TOML file describes; `-` reads standard input
    #[arg(long, short, value_name = "FILE", conflicts_with = "model")]
    pub(crate) file: Option<PathBuf>,
    /// Remove all deployments that the file does not describe
    #[arg(long, requires = "file")]
    pub(crate) only: bool,
    #[command(flatten)]
    pub(crate) values: DeployValues,
    /// Do not wait until the workers serve requests
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeployValues {
    /// Keep this many workers running, each on a device of its own; with 0, the first request
    /// starts one [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "file", value_parser = whole_number(0..=1000_u32))]
    min: Option<u32>,
    /// Start up to this many workers while requests wait [default: the minimum]
    #[arg(long, value_name = "N", conflicts_with = "file", value_parser = whole_number(1..=1000_u32))]
    max: Option<u32>,
    /// Run the workers on this node; can be repeated [default: any node]
    #[arg(long, value_name = "NAME", conflicts_with = "file", value_parser = parse::<NodeName>)]
    node: Vec<NodeName>,
    /// Run one worker on all of these nodes, for a model larger than each of them: the largest node
    /// runs llama.cpp, and the others compute parts of the model for it
    #[arg(
        long,
        value_name = "NAME,NAME",
        value_delimiter = ',',
        conflicts_with_all = ["file", "node", "max"],
        value_parser = parse::<NodeName>
    )]
    split: Vec<NodeName>,
    /// Run the workers on devices of this backend: cpu, cuda or metal [default: any]
    #[arg(long, value_name = "BACKEND", conflicts_with = "file", value_parser = parse::<Backend>)]
    backend: Option<Backend>,
    /// Run the model with this engine [default: the first one that runs it, that of rbee before
    /// others]
    #[arg(long, value_name = "ENGINE", conflicts_with = "file", value_parser = parse::<EngineName>)]
    engine: Option<EngineName>,
    /// Set the tokens of context of each request [default: the model's, as far as memory permits]
    #[arg(long, value_name = "TOKENS", conflicts_with = "file", value_parser = whole_number(1..=u32::MAX))]
    context: Option<u32>,
    /// Run this many requests at a time on each worker [default: the worker decides]
    #[arg(long, value_name = "N", conflicts_with = "file", value_parser = whole_number(1..=u32::MAX))]
    slots: Option<u32>,
    /// Stop workers beyond the minimum after this time without requests [default: 300]
    #[arg(long, value_name = "SECONDS", conflicts_with = "file", value_parser = whole_number(0..=u64::MAX))]
    keep_alive: Option<u64>,
    /// Take the memory of deployments of a lower priority if there is too little [default: 0]
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "file",
        allow_negative_numbers = true
    )]
    priority: Option<i32>,
}

impl DeployValues {
    pub(crate) fn of(self, model: ModelRef) -> DeploymentSpec {
        let default = DeploymentSpec::of(model);
        DeploymentSpec {
            min_workers: self.min.unwrap_or(default.min_workers),
            max_workers: self.max,
            nodes: self.node,
            split: self.split,
            backend: self.backend,
            engine: self.engine,
            context_length: self.context,
            slots: self.slots,
            keep_alive_seconds: self.keep_alive,
            priority: self.priority.unwrap_or(default.priority),
            ..default
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  rbee-keeper undeploy builtin:haiku")]
pub(crate) struct Undeploy {
    /// Model of the deployment
    #[arg(value_parser = |text: &str| model::parse(text).map_err(with_hint))]
    pub(crate) model: ModelRef,
    #[command(flatten)]
    pub(crate) drain: DrainArg,
}
