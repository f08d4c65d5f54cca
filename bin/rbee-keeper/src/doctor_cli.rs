use clap::Args;
use input_validation::{Backend, DeviceId, EngineName, ModelRef, NodeName, whole_number};

use crate::{
    model,
    values::{parse, with_hint},
};

const EXAMPLES: &str = "\
Examples:
  rbee-keeper doctor
  rbee-keeper doctor --model hf:org/repo:Q4_K_M --backend cuda --context 8192 --slots 4

If no queen is running and one can be started, this command starts it. The exit code is 1 if a \
check fails, and 0 if all pass, with or without warnings.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Doctor {
    /// Check this node only [default: all nodes]
    #[arg(long, value_name = "NAME", value_parser = parse::<NodeName>)]
    pub(crate) node: Option<NodeName>,
    /// Check whether this model can be served
    #[arg(long, short, value_name = "MODEL", value_parser = |text: &str| model::parse(text).map_err(with_hint))]
    pub(crate) model: Option<ModelRef>,
    /// Check a device of this backend: cpu, cuda or metal [default: cpu]
    #[arg(long, value_name = "BACKEND", value_parser = parse::<Backend>)]
    pub(crate) backend: Option<Backend>,
    /// Check this device, for example GPU-1
    #[arg(long, value_name = "DEVICE", value_parser = parse::<DeviceId>)]
    pub(crate) device: Option<DeviceId>,
    /// Check whether this engine runs the model [default: the first one that does]
    #[arg(long, value_name = "ENGINE", requires = "model", value_parser = parse::<EngineName>)]
    pub(crate) engine: Option<EngineName>,
    /// Check whether a context of this many tokens fits [default: any context]
    #[arg(long, value_name = "TOKENS", requires = "model", value_parser = whole_number(1..=u32::MAX))]
    pub(crate) context: Option<u32>,
    /// Check whether this many contexts fit at the same time
    #[arg(long, value_name = "N", requires = "model", value_parser = whole_number(1..=1024_u32))]
    pub(crate) slots: Option<u32>,
}
