use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, error::ErrorKind};
use input_validation::{
    Backend, EngineName, ModelRef, NodeName, PortRange, WorkerId, whole_number,
};

use crate::{
    binary_cli::WorkerBinary,
    deploy_cli::{Deploy, Undeploy},
    doctor_cli::Doctor,
    errors, model,
    model_cli::{Model, Pull},
    node_cli::{Node, Setup},
    policy_cli::PolicyCommand,
    values::{DrainArg, LinesArg, parse, with_hint},
};

const EXAMPLES: &str = "\
Examples:
  rbee-keeper infer \"Write a haiku about winter\"
  rbee-keeper status
  rbee-keeper queen stop

Exit codes: 0 success, 1 failure, 2 usage error, 130 interrupted, 143 terminated.";

const INFER_EXAMPLES: &str = "\
Examples:
  rbee-keeper infer \"Write a haiku about winter\"
  rbee-keeper infer --seed 7 --temperature 0.7 --max-tokens 60 \"Write a haiku\"
  rbee-keeper infer --model ./model.gguf \"Write a haiku\"
  rbee-keeper infer --model hf:HuggingFaceTB/SmolLM2-360M-Instruct-GGUF \"Write a haiku\"
  git log -1 | rbee-keeper infer \"Summarize in one line\"
  rbee-keeper infer --ephemeral --json \"Write a haiku\" | jq -r 'select(.event == \"token\").data.t'";

/// Note on a queen that `infer` started.
pub(crate) const QUEEN_KEEPS_RUNNING: &str = "the queen keeps running so that the next response is faster; `rbee-keeper queen stop` stops it \
     and its workers";

/// Run language models on your own computers
#[derive(Debug, Parser)]
#[command(name = "rbee-keeper", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Parses the arguments and environment variables of this process.
    pub(crate) fn from_process() -> Result<Self, clap::Error> {
        let parse = |environment: Environment| {
            daemon_shell::without_empty_variables(Self::command(), environment).try_get_matches()
        };
        let mut matches = match parse(|name| std::env::var_os(name)) {
            Err(error) if !is_help(&error) => {
                // The usage names all options that have a value. Those of the environment are not
                // of the command line that is refused, unless one of them is the reason.
                let without = parse(|_| Some(OsString::new()));
                return Err(without.err().unwrap_or(error));
            }
            parsed => parsed?,
        };
        Self::from_arg_matches_mut(&mut matches).map_err(|e| e.format(&mut Self::command()))
    }
}

/// Returns the value of an environment variable.
type Environment = fn(&OsStr) -> Option<OsString>;

/// Whether it is no error, but help or the version.
fn is_help(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::DisplayVersion
    )
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Print one JSON document; `infer` prints one JSON object per event, each on its own line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print only results and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Store all state in this directory [default: ~/.rbee]
    #[arg(long, global = true, env = "RBEE_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Use the queen at this address; it is neither started nor stopped
    #[arg(long, global = true, env = "RBEE_QUEEN_URL", value_name = "URL", value_parser = parse_url)]
    pub(crate) queen: Option<String>,
    /// Read the token for `--queen` from this file
    #[arg(long, global = true, env = "RBEE_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Set the port of a newly started queen; 0 selects a free port
    #[arg(long, global = true, env = "RBEE_QUEEN_PORT", value_name = "PORT", default_value_t = queen_contract::DEFAULT_PORT, value_parser = whole_number(0..=u16::MAX))]
    pub(crate) queen_port: u16,
    /// Set the port of the hive of a newly started queen; 0 selects a free port
    #[arg(long, global = true, env = "RBEE_HIVE_PORT", value_name = "PORT", value_parser = whole_number(0..=u16::MAX))]
    pub(crate) hive_port: Option<u16>,
    /// Set the ports for the workers of a newly started queen, for example 8081-8180
    #[arg(long, global = true, env = "RBEE_WORKER_PORTS", value_name = "PORTS", value_parser = parse::<PortRange>)]
    pub(crate) worker_ports: Option<PortRange>,
    /// Start the queen from this binary [default: queen-rbee in the directory of rbee-keeper]
    #[arg(long, global = true, env = "RBEE_QUEEN_BINARY", value_name = "FILE")]
    pub(crate) queen_binary: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Generate text from a prompt
    Infer(Box<Infer>),
    /// Start, stop and show the queen
    #[command(subcommand)]
    Queen(Queen),
    /// List, start, show and stop workers
    #[command(subcommand)]
    Worker(Worker),
    /// Add, list, change and remove the machines that run workers
    #[command(subcommand)]
    Node(Node),
    /// Other names of commands that set up nodes
    #[command(subcommand, hide = true)]
    Setup(Setup),
    /// Fetch a model; short for `model pull`
    Pull(Pull),
    /// List, fetch, show and remove models
    #[command(subcommand)]
    Model(Model),
    /// List, build, download, replace and remove the programs of workers
    #[command(subcommand)]
    WorkerBinary(WorkerBinary),
    /// Keep workers of a model running
    Deploy(Box<Deploy>),
    /// Remove a deployment and stop its workers
    Undeploy(Undeploy),
    /// List the deployments
    Deployments,
    /// Show the queen, its requests, nodes, deployments and workers
    Status,
    /// Explain where requests ran, why they waited, and where workers were started
    #[command(after_help = "Examples:\n  rbee-keeper why\n  rbee-keeper why builtin:haiku")]
    Why {
        /// Id of a request (the header `x-rbee-request-id` of a response) or of a worker, or a
        /// model [default: the latest decisions]
        about: Option<String>,
        /// Show at most this many decisions, the latest ones
        #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = whole_number(1..=2000_u32))]
        number: u32,
    },
    /// Show and try the script that changes where requests run
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Check whether this machine and the nodes can serve
    Doctor(Doctor),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  rbee-keeper completions bash > ~/.local/share/bash-completion/completions/rbee-keeper"
    )]
    Completions {
        /// Shell that runs the script
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
#[command(after_help = infer_notes(), allow_negative_numbers = true)]
pub(crate) struct Infer {
    /// Prompt; several words are joined with spaces. Text that is piped in is appended to it
    /// after an empty line; `-` stands for that text alone
    pub(crate) prompt: Vec<String>,
    /// Use this model: a name such as builtin:haiku or hf:org/repo, which is fetched if it is
    /// missing, or the path of a GGUF file or of a directory with safetensors
    #[arg(long, short, value_name = "MODEL", default_value = queen_contract::DEFAULT_MODEL, value_parser = |text: &str| model::parse(text).map_err(with_hint))]
    pub(crate) model: ModelRef,
    /// Generate at most this many tokens [default: as many as fit in the context]
    #[arg(long, short = 'n', value_name = "N", value_parser = whole_number(1..=u32::MAX))]
    pub(crate) max_tokens: Option<u32>,
    /// Set the sampling temperature; 0 always selects the most likely token [default: the model's]
    #[arg(long, short, value_name = "T", value_parser = |t: &str| parse_number(t, 0.0, 100.0))]
    pub(crate) temperature: Option<f32>,
    /// Sample from the most likely tokens whose probabilities add up to P [default: the model's]
    #[arg(long, value_name = "P", value_parser = |t: &str| parse_number(t, 0.0, 1.0))]
    pub(crate) top_p: Option<f32>,
    /// Sample from the K most likely tokens; 0 disables the limit [default: the model's]
    #[arg(long, value_name = "K", value_parser = whole_number(0..=u32::MAX))]
    pub(crate) top_k: Option<u32>,
    /// Set the sampling seed; the same seed reproduces the text [default: random, printed at the end]
    #[arg(long, value_name = "N", value_parser = whole_number(0..=u64::MAX))]
    pub(crate) seed: Option<u64>,
    /// Stop the completion before this text; can be repeated
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) stop: Vec<String>,
    /// Set the system prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub(crate) system: Option<String>,
    /// Generate JSON that matches the schema in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json_schema: Option<PathBuf>,
    /// Send the prompt to the model without applying its chat template, so that the model
    /// continues it; always so for a model without a chat template
    #[arg(long)]
    pub(crate) raw: bool,
    /// Let the model reason before it answers; a model that cannot is an error
    #[arg(long, value_name = "EFFORT", num_args = 0..=1, require_equals = true, default_missing_value = "on", conflicts_with = "raw")]
    pub(crate) think: Option<Think>,
    /// Let the model answer without reasoning
    #[arg(long, conflicts_with_all = ["think", "raw"])]
    pub(crate) no_think: bool,
    /// Do not print the reasoning
    #[arg(long)]
    pub(crate) hide_thinking: bool,
    /// Run only on this node
    #[arg(long, value_name = "NAME", value_parser = parse::<NodeName>)]
    pub(crate) node: Option<NodeName>,
    /// Run only on a device of this backend: cpu, cuda or metal
    #[arg(long, value_name = "BACKEND", value_parser = parse::<Backend>)]
    pub(crate) backend: Option<Backend>,
    /// Cancel the request after this time
    #[arg(long, value_name = "SECONDS", value_parser = whole_number(1..=u32::MAX))]
    pub(crate) deadline: Option<u32>,
    /// Let the interactive requests for the model go first
    #[arg(long)]
    pub(crate) batch: bool,
    /// Stop the queen, its hives and its workers on exit if this command started the queen
    #[arg(long)]
    pub(crate) ephemeral: bool,
}

/// How much a model reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Think {
    /// As much as its chat template decides.
    #[value(hide = true)]
    On,
    Low,
    Medium,
    High,
}

impl Think {
    /// Returns the word for the effort, if there is one.
    pub(crate) fn effort(self) -> Option<&'static str> {
        match self {
            Self::On => None,
            Self::Low => Some("low"),
            Self::Medium => Some("medium"),
            Self::High => Some("high"),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Queen {
    /// Start the queen if none is running
    Start,
    /// Stop the workers of all nodes and the hives that the queen started, then the queen
    #[command(after_help = "Example:\n  rbee-keeper queen stop --keep-workers")]
    Stop {
        /// Keep hives and workers running; the next queen finds them
        #[arg(long)]
        keep_workers: bool,
        #[command(flatten)]
        drain: DrainArg,
    },
    /// Show whether the queen is running, and its address
    Status,
    /// Print the last lines of the queen's log
    Logs {
        #[command(flatten)]
        lines: LinesArg,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Worker {
    /// List workers
    List,
    /// Start a worker for a model, and wait until it serves requests
    #[command(
        after_help = "Examples:\n  rbee-keeper worker spawn builtin:haiku\n  rbee-keeper worker spawn --engine llama-cpp ./model.gguf"
    )]
    Spawn(SpawnArgs),
    /// List the engines of a node, which run the models of its workers
    Engines {
        /// Node whose engines are meant [default: local]
        #[arg(long, value_name = "NAME", value_parser = parse::<NodeName>)]
        node: Option<NodeName>,
    },
    /// Show one worker
    Show(WorkerArg),
    /// Print the last lines of a worker's log
    Logs {
        #[command(flatten)]
        worker: WorkerArg,
        #[command(flatten)]
        lines: LinesArg,
    },
    /// Stop one worker
    Stop {
        #[command(flatten)]
        worker: WorkerArg,
        #[command(flatten)]
        drain: DrainArg,
        /// Start a new worker for the requests that wait for this one, or that it does not finish in
        /// time: to use a new version of its program without losing a request
        #[arg(long)]
        replace: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SpawnArgs {
    /// Model: a name such as builtin:haiku or hf:org/repo, or a path
    #[arg(value_parser = |text: &str| model::parse(text).map_err(with_hint))]
    pub(crate) model: ModelRef,
    /// Run it on this node [default: local]
    #[arg(long, value_name = "NAME", value_parser = parse::<NodeName>)]
    pub(crate) node: Option<NodeName>,
    /// Run it on a device of this backend [default: cpu]
    #[arg(long, value_name = "BACKEND", value_parser = parse::<Backend>)]
    pub(crate) backend: Option<Backend>,
    /// Run it with this engine from now on [default: the first one that runs the model, that of
    /// rbee before others]
    #[arg(long, value_name = "ENGINE", value_parser = parse::<EngineName>)]
    pub(crate) engine: Option<EngineName>,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerArg {
    /// Id of the worker
    #[arg(value_parser = parse::<WorkerId>)]
    pub(crate) worker: WorkerId,
}

fn infer_notes() -> String {
    format!(
        "{INFER_EXAMPLES}\n\nIf no queen is running, this command starts one, and {QUEEN_KEEPS_RUNNING}."
    )
}

fn parse_number(text: &str, min: f32, max: f32) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(with_hint(errors::invalid_number(text, min, max))),
    }
}

/// Parses an `http` URL without user, path and query; removes final slashes.
fn parse_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").unwrap_or_default();
    let host = rest.trim_end_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
    if host.is_empty() || !host.chars().all(plain) {
        return Err(with_hint(errors::invalid_queen_url(text)));
    }
    Ok(format!("http://{host}"))
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use diagnostics::Diagnostic;

    use super::*;
    use clap::error::ErrorKind;

    fn infer(arguments: &[&str]) -> Infer {
        let line = ["rbee-keeper", "infer"].iter().chain(arguments);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Infer(infer) => *infer,
            other => panic!("{other:?}"),
        }
    }

    fn usage_error(arguments: &[&str]) -> clap::Error {
        let line = ["rbee-keeper"].iter().chain(arguments);
        let error = Cli::try_parse_from(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{arguments:?}");
        error
    }

    #[test]
    fn clap_accepts_the_definition() {
        Cli::command().debug_assert();
    }

    #[test]
    fn infer_leaves_absent_options_to_the_queen() {
        let args = infer(&["Hi"]);
        assert_eq!(args.prompt, ["Hi"]);
        assert_eq!(args.model.to_string(), "builtin:haiku");
        assert_eq!(
            (args.max_tokens, args.temperature, args.seed),
            (None, None, None)
        );
        assert!(!args.ephemeral && !args.raw && args.stop.is_empty());
    }

    #[test]
    fn infer_parses_its_options() {
        let args = infer(&[
            "--stop",
            "a",
            "--stop",
            "b",
            "--seed",
            "18446744073709551615",
            "--top-p",
            "0.9",
            "--backend",
            "cuda",
            "--node",
            "box-1",
            "-",
        ]);
        assert_eq!(args.stop, ["a", "b"]);
        assert_eq!(args.seed, Some(u64::MAX));
        assert_eq!(args.top_p, Some(0.9));
        assert_eq!(args.backend, Some(Backend::Cuda));
        assert_eq!(args.node.unwrap().as_str(), "box-1");
        assert_eq!(args.prompt, ["-"]);
    }

    #[test]
    fn invalid_values_are_rejected_with_a_hint() {
        fn hint<T: FromStr<Err = Diagnostic>>(text: &str) -> String {
            with_hint(text.parse::<T>().err().unwrap())
        }
        let number = "invalid number: \"";
        let whole = |text| whole_number::<u32>(1..=u32::MAX)(text).unwrap_err();
        let url = "hint: use an address such as `http://127.0.0.1:8500`";
        for (arguments, value, option, reason) in [
            (
                &["infer", "--model", "a b", "Hi"][..],
                "a b",
                "--model <MODEL>",
                with_hint(model::parse("a b").unwrap_err()),
            ),
            (
                &["infer", "--backend", "tpu", "Hi"],
                "tpu",
                "--backend <BACKEND>",
                hint::<Backend>("tpu"),
            ),
            (
                &["infer", "--temperature", "NaN", "Hi"],
                "NaN",
                "--temperature <T>",
                format!("{number}NaN\"\n\nhint: use a number between 0 and 100"),
            ),
            (
                &["infer", "--top-p", "1.5", "Hi"],
                "1.5",
                "--top-p <P>",
                format!("{number}1.5\"\n\nhint: use a number between 0 and 1"),
            ),
            (
                &["infer", "--top-p", "x", "Hi"],
                "x",
                "--top-p <P>",
                format!("{number}x\"\n\nhint: use a number between 0 and 1"),
            ),
            (
                &["infer", "--max-tokens", "0", "Hi"],
                "0",
                "--max-tokens <N>",
                whole("0"),
            ),
            (
                &["infer", "-n", "-5", "Hi"],
                "-5",
                "--max-tokens <N>",
                whole("-5"),
            ),
            (
                &["infer", "--deadline", "0", "Hi"],
                "0",
                "--deadline <SECONDS>",
                whole("0"),
            ),
            (
                &["worker", "show", "../x"],
                "../x",
                "<WORKER>",
                hint::<WorkerId>("../x"),
            ),
            (
                &["--queen", "https://x", "status"],
                "https://x",
                "--queen <URL>",
                format!("not a queen address: \"https://x\"\n\n{url}"),
            ),
            (
                &["--queen", "http://user@x/path", "status"],
                "http://user@x/path",
                "--queen <URL>",
                format!("not a queen address: \"http://user@x/path\"\n\n{url}"),
            ),
        ] {
            assert_eq!(
                usage_error(arguments).to_string(),
                format!(
                    "error: invalid value '{value}' for '{option}': {reason}\n\n\
                     For more information, try '--help'.\n"
                )
            );
        }
    }

    #[test]
    fn invalid_combinations_are_rejected() {
        assert_eq!(
            usage_error(&["infer", "--stop", "", "Hi"]).kind(),
            ErrorKind::InvalidValue
        );
        assert_eq!(
            usage_error(&["infer", "--raw", "--system", "x", "Hi"]).kind(),
            ErrorKind::ArgumentConflict
        );
        assert_eq!(
            usage_error(&[]).kind(),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        );
    }

    #[test]
    fn queen_url_loses_its_final_slash() {
        assert_eq!(
            parse_url("http://[::1]:8500/").unwrap(),
            "http://[::1]:8500"
        );
    }

    #[test]
    fn every_command_and_argument_has_a_help_text() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{}", argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
