use std::{fmt::Display, path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand};
use diagnostics::Diagnostic;
use input_validation::{Backend, ModelRef, NodeName, WorkerId};

const EXAMPLES: &str = "\
Examples:
  rbee-keeper infer \"Write a haiku about winter\"
  rbee-keeper status
  rbee-keeper queen stop

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.";

const INFER_EXAMPLES: &str = "\
Examples:
  rbee-keeper infer \"Write a haiku about winter\"
  rbee-keeper infer --seed 7 --temperature 0.7 --max-tokens 60 \"Write a haiku\"
  git log -1 | rbee-keeper infer --system \"Summarise in one line\" -
  rbee-keeper infer --ephemeral --json \"Write a haiku\" | jq -r 'select(.event == \"token\").data.t'

When no queen runs, one is started and keeps running, so that the next answer comes faster.";

/// Run language models on your own computers.
#[derive(Debug, Parser)]
#[command(name = "rbee-keeper", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Print one JSON document; for infer, one JSON object a line for each event
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results and errors only
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Folder with all state [default: ~/.rbee]
    #[arg(long, global = true, env = "RBEE_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Use the queen at this address; it is neither started nor stopped
    #[arg(long, global = true, env = "RBEE_QUEEN_URL", value_name = "URL", value_parser = parse_url)]
    pub queen: Option<String>,
    /// File with the token of the queen that `--queen` names
    #[arg(long, global = true, env = "RBEE_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Where a queen that is started listens; 0 takes any free port
    #[arg(long, global = true, env = "RBEE_QUEEN_PORT", value_name = "PORT", default_value_t = queen_contract::DEFAULT_PORT)]
    pub queen_port: u16,
    /// Where the hive of a queen that is started listens; 0 takes any free port
    #[arg(long, global = true, env = "RBEE_HIVE_PORT", value_name = "PORT")]
    pub hive_port: Option<u16>,
    /// Ports for the workers of a queen that is started, for example 8081-8180
    #[arg(long, global = true, env = "RBEE_WORKER_PORTS", value_name = "PORTS")]
    pub worker_ports: Option<String>,
    /// The queen-rbee program [default: beside rbee-keeper]
    #[arg(long, global = true, env = "RBEE_QUEEN_BINARY", value_name = "FILE")]
    pub queen_binary: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Generate text
    Infer(Box<Infer>),
    /// Start, stop or look at the queen
    #[command(subcommand)]
    Queen(Queen),
    /// Look at workers, or stop one
    #[command(subcommand)]
    Worker(Worker),
    /// Look at models
    #[command(subcommand)]
    Model(Model),
    /// Show the queen, its nodes, workers and requests
    Status,
    /// Print completions for a shell
    #[command(
        after_help = "Example:\n  rbee-keeper completions bash > ~/.local/share/bash-completion/completions/rbee-keeper"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
#[command(after_help = INFER_EXAMPLES, allow_negative_numbers = true)]
pub struct Infer {
    /// What to answer; `-`, or nothing with a pipe, reads standard input
    pub prompt: Option<String>,
    /// The model
    #[arg(long, short, value_name = "MODEL", default_value = queen_contract::DEFAULT_MODEL, value_parser = parse::<ModelRef>)]
    pub model: ModelRef,
    /// Most tokens to generate [default: what the model's context leaves]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    /// 0 always takes the likeliest token; higher is more varied [default: 1]
    #[arg(long, short, value_name = "T", value_parser = |t: &str| number(t, 0.0, 100.0))]
    pub temperature: Option<f32>,
    /// Choose among the likeliest tokens that together have this probability [default: 1]
    #[arg(long, value_name = "P", value_parser = |t: &str| number(t, 0.0, 1.0))]
    pub top_p: Option<f32>,
    /// Choose among this many of the likeliest tokens; 0 is all [default: 0]
    #[arg(long, value_name = "K")]
    pub top_k: Option<u32>,
    /// Same seed, same text [default: drawn, and told at the end]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub stop: Vec<String>,
    /// Instructions for the whole answer
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub system: Option<String>,
    /// Answer with JSON that matches the schema in this file
    #[arg(long, value_name = "FILE")]
    pub json_schema: Option<PathBuf>,
    /// Give the model the prompt as it is, without its chat template
    #[arg(long)]
    pub raw: bool,
    /// Only on this node
    #[arg(long, value_name = "NAME", value_parser = parse::<NodeName>)]
    pub node: Option<NodeName>,
    /// Only on such a device: cpu, cuda or metal
    #[arg(long, value_name = "BACKEND", value_parser = parse::<Backend>)]
    pub backend: Option<Backend>,
    /// Give up after this long
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub deadline: Option<u32>,
    /// Stop everything that this command started when it ends
    #[arg(long)]
    pub ephemeral: bool,
}

#[derive(Debug, Subcommand)]
pub enum Queen {
    /// Start the queen, if none runs
    Start,
    /// Stop the queen, and first its workers and hives
    #[command(after_help = "Example:\n  rbee-keeper queen stop --keep-workers")]
    Stop {
        /// Leave hives and workers running; the next queen finds them
        #[arg(long)]
        keep_workers: bool,
        /// How long running requests may go on [default: 30]
        #[arg(long, value_name = "SECONDS")]
        drain: Option<u64>,
    },
    /// Tell whether the queen runs, and where
    Status,
    /// Print the end of the queen's log
    Logs {
        #[command(flatten)]
        lines: Lines,
    },
}

#[derive(Debug, Subcommand)]
pub enum Worker {
    /// List workers
    List,
    /// Show one worker
    Show {
        /// Its name
        #[arg(value_parser = parse::<WorkerId>)]
        worker: WorkerId,
    },
    /// Print the end of a worker's log
    Logs {
        /// Its name
        #[arg(value_parser = parse::<WorkerId>)]
        worker: WorkerId,
        #[command(flatten)]
        lines: Lines,
    },
    /// Stop a worker
    Stop {
        /// Its name
        #[arg(value_parser = parse::<WorkerId>)]
        worker: WorkerId,
        /// How long running requests may go on [default: 30]
        #[arg(long, value_name = "SECONDS")]
        drain: Option<u64>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Model {
    /// List the models that the nodes have
    List,
}

#[derive(Debug, Clone, Copy, Args)]
pub struct Lines {
    /// How many lines
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub lines: u32,
}

/// Reads one of rbee's own types; its hint goes along.
fn parse<T: FromStr<Err = Diagnostic>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|d: Diagnostic| match d.hint {
        Some(hint) => format!("{}\n\nhint: {hint}", d.message),
        None => d.message,
    })
}

fn number(text: &str, min: f32, max: f32) -> Result<f32, String> {
    let outside = |value: &dyn Display| format!("{value} is not in {min} to {max}");
    match text.parse::<f32>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        Ok(value) => Err(outside(&value)),
        Err(e) => Err(e.to_string()),
    }
}

fn parse_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").unwrap_or_default();
    let host = rest.trim_end_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
    if host.is_empty() || !host.chars().all(plain) {
        return Err("an address looks like http://127.0.0.1:8500".to_owned());
    }
    Ok(format!("http://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn infer(arguments: &[&str]) -> Infer {
        let line = ["rbee-keeper", "infer"].iter().chain(arguments);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Infer(infer) => *infer,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(arguments: &[&str]) -> String {
        let line = ["rbee-keeper"].iter().chain(arguments);
        let error = Cli::try_parse_from(line).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_defaults_of_infer_leave_everything_to_the_queen() {
        let args = infer(&["Hi"]);
        assert_eq!(args.prompt.as_deref(), Some("Hi"));
        assert_eq!(args.model.to_string(), "builtin:haiku");
        assert_eq!(
            (args.max_tokens, args.temperature, args.seed),
            (None, None, None)
        );
        assert!(!args.ephemeral && !args.raw && args.stop.is_empty());
    }

    #[test]
    fn options_of_infer() {
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
        assert_eq!(args.prompt.as_deref(), Some("-"));
    }

    #[test]
    fn wrong_values_are_refused_with_what_would_be_right() {
        let told = refusal(&["infer", "--model", "haiku", "Hi"]);
        assert!(told.contains("not a model reference: \"haiku\""), "{told}");
        assert!(told.contains("hint: use `builtin:haiku`"), "{told}");
        assert!(refusal(&["infer", "--backend", "tpu", "Hi"]).contains("hint: use `cpu`"));
        assert!(refusal(&["infer", "--temperature", "NaN", "Hi"]).contains("is not in 0 to 100"));
        assert!(refusal(&["infer", "--top-p", "1.5", "Hi"]).contains("1.5 is not in 0 to 1"));
        refusal(&["infer", "--max-tokens", "0", "Hi"]);
        assert!(refusal(&["infer", "-n", "-5", "Hi"]).contains("-5 is not in 1.."));
        refusal(&["infer", "--deadline", "0", "Hi"]);
        refusal(&["infer", "--stop", "", "Hi"]);
        refusal(&["infer", "--raw", "--system", "x", "Hi"]);
        refusal(&["worker", "show", "../x"]);
        refusal(&["--queen", "https://x", "status"]);
        refusal(&["--queen", "http://user@x/path", "status"]);
        refusal(&[]);
    }

    #[test]
    fn an_address_loses_its_last_slash() {
        assert_eq!(
            parse_url("http://[::1]:8500/").unwrap(),
            "http://[::1]:8500"
        );
    }

    #[test]
    fn every_command_has_a_help_text() {
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
