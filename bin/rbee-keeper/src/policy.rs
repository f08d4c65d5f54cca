use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use diagnostics::Diagnostic;
use input_validation::{Backend, ModelRef, NodeName, whole_number};
use queen_contract::{PolicyTestCall, Priority};
use tokio::{fs::File, io::AsyncReadExt as _};

use crate::{
    errors,
    failure::Failure,
    model,
    render::{Screen, policy as text},
    target::Target,
    values::{parse, with_hint},
};

/// Largest script that is sent to the queen, which refuses those above its own limit.
const SCRIPT_LIMIT: u64 = 1 << 20;

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
    file: Option<PathBuf>,
    /// Model of the request
    #[arg(long, short, value_name = "MODEL", default_value = queen_contract::DEFAULT_MODEL, value_parser = |text: &str| model::parse(text).map_err(with_hint))]
    model: ModelRef,
    /// Node that the request requires
    #[arg(long, value_name = "NAME", value_parser = parse::<NodeName>)]
    node: Option<NodeName>,
    /// Backend that the request requires: cpu, cuda or metal
    #[arg(long, value_name = "BACKEND", value_parser = parse::<Backend>)]
    backend: Option<Backend>,
    /// Priority of the request: interactive or batch
    #[arg(long, value_name = "PRIORITY", default_value = "interactive", value_parser = parse::<Priority>)]
    priority: Priority,
    /// Size of its prompt
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = whole_number(0..=u64::MAX))]
    prompt_bytes: u64,
}

/// Runs `rbee-keeper policy`.
pub(crate) async fn run(
    command: PolicyCommand,
    target: &Target,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let args = match command {
        PolicyCommand::Show => {
            let status = target.running().await?.policy().await?;
            return screen.document(&status, || text::status(&status)).await;
        }
        PolicyCommand::Test(args) => args,
    };
    let script = match &args.file {
        Some(file) => Some(read(file).await?),
        None => None,
    };
    let call = PolicyTestCall {
        script,
        model: args.model,
        node: args.node,
        backend: args.backend,
        priority: args.priority,
        prompt_bytes: args.prompt_bytes,
    };
    let test = target.running().await?.test_policy(&call).await?;
    screen.document(&test, || text::test(&test)).await?;
    if test.failed {
        return Err(Failure::Reported);
    }
    Ok(())
}

async fn read(file: &Path) -> Result<String, Diagnostic> {
    let mut text = String::new();
    let read = async {
        let opened = File::open(file).await?;
        opened.take(SCRIPT_LIMIT).read_to_string(&mut text).await
    };
    match read.await {
        Ok(_) => Ok(text),
        Err(error) => Err(errors::unreadable_policy(file, &error)),
    }
}
