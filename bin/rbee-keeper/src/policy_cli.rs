use std::path::PathBuf;

use clap::{Args, Subcommand};
use input_validation::{Backend, ModelRef, NodeName, whole_number};
use queen_contract::Priority;

use crate::{
    model,
    values::{parse, with_hint},
};

/// Show and try the script that decides where requests run
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Show which script is in use, and how often it failed
    Show,
    /// Show what would be decided for a request now, with and without the script; nothing changes
    Test(Test),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rbee-keeper policy test --model builtin:haiku\n  rbee-keeper policy test new.rhai --model qwen3:0.6b --priority batch\n\nThe exit code is 1 if the script cannot be used or fails."
)]
pub(crate) struct Test {
    /// File with a script [default: the script in use]
    pub(crate) file: Option<PathBuf>,
    /// Model of the request
    #[arg(long, short, value_name = "MODEL", default_value = queen_contract::DEFAULT_MODEL, value_parser = |text: &str| model::parse(text).map_err(with_hint))]
    pub(crate) model: ModelRef,
    /// Node that the request requires
    #[arg(long, value_name = "NAME", value_parser = parse::<NodeName>)]
    pub(crate) node: Option<NodeName>,
    /// Backend that the request requires: cpu, cuda or metal
    #[arg(long, value_name = "BACKEND", value_parser = parse::<Backend>)]
    pub(crate) backend: Option<Backend>,
    /// Priority of the request: interactive or batch
    #[arg(long, value_name = "PRIORITY", default_value = "interactive", value_parser = parse::<Priority>)]
    pub(crate) priority: Priority,
    /// Size of its prompt
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = whole_number(0..=u64::MAX))]
    pub(crate) prompt_bytes: u64,
}
