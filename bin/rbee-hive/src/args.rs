use std::{net::IpAddr, path::PathBuf};

use daemon_shell::LogFilter;
use input_validation::{
    BranchName, NodeName, NodeUrl, PortRange, RepositoryUrl, byte_count, option_value, whole_number,
};

use crate::suspend::DEFAULT_COMMAND;

/// Runs workers on this machine
#[derive(Debug, clap::Parser)]
#[command(name = "rbee-hive", version)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Directory for all state [default: ~/.rbee]
    #[arg(long, global = true, env = "RBEE_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Address to listen on; other machines must use TLS
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub bind: IpAddr,
    /// Let other machines connect without TLS, in a network that encrypts everything itself
    #[arg(long)]
    pub allow_unencrypted: bool,
    /// Port to listen on; 0 selects any free port
    #[arg(long, global = true, env = "RBEE_HIVE_PORT", default_value_t = 9200, value_parser = whole_number(0..=u16::MAX))]
    pub port: u16,
    /// Name of this node [default: that of the join, else local]
    #[arg(long, value_name = "NAME", value_parser = option_value::<NodeName>)]
    pub hive_id: Option<NodeName>,
    /// File with the node's token [default: keys/node-local.token in the home, created if missing]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Directory with the worker binaries [default: the directory of this binary]
    #[arg(long, global = true, value_name = "DIR")]
    pub worker_dir: Option<PathBuf>,
    /// Git repository to build worker binaries from; those that a worker needs and that are
    /// missing are built then [default: none]
    #[arg(long, global = true, env = "RBEE_WORKER_REPOSITORY", value_name = "URL", value_parser = option_value::<RepositoryUrl>)]
    pub worker_repository: Option<RepositoryUrl>,
    /// Branch or tag of that repository [default: that of the repository]
    #[arg(long, global = true, env = "RBEE_WORKER_BRANCH", value_name = "BRANCH", requires = "worker_repository", value_parser = option_value::<BranchName>)]
    pub worker_branch: Option<BranchName>,
    /// Profile of cargo that worker binaries are built with
    #[arg(long, global = true, env = "RBEE_WORKER_PROFILE", value_name = "PROFILE", default_value = "release", value_parser = ["release", "dev"])]
    pub worker_profile: String,
    /// Public key of minisign that downloads of worker binaries must be signed with [default:
    /// only their SHA-256 is checked]
    #[arg(long, global = true, env = "RBEE_WORKER_KEY", value_name = "KEY")]
    pub worker_key: Option<String>,
    /// Catalog of packages of workers: the URL of what contains `workers/index.json`,
    /// `https://…` or `file://…` [default: none]
    #[arg(long, global = true, env = "RBEE_CATALOG", value_name = "URL")]
    pub catalog: Option<String>,
    /// Public key of minisign that the catalog must be signed with, or a file with it [default:
    /// that of the build, if it has one]
    #[arg(long, global = true, env = "RBEE_CATALOG_KEY", value_name = "KEY|FILE")]
    pub catalog_key: Option<String>,
    /// Directory of a toolchain outside /usr that builds of packages can read; can be repeated
    /// [default: those of Rust and CUDA that are found]
    #[arg(
        long = "toolchain",
        global = true,
        env = "RBEE_TOOLCHAINS",
        value_name = "DIR",
        value_delimiter = ':'
    )]
    pub toolchains: Vec<PathBuf>,
    /// Ports for workers, for example 8081-8180; 0 selects any free port
    #[arg(long, global = true, env = "RBEE_WORKER_PORTS", default_value_t = PortRange::default(), value_name = "PORTS", value_parser = option_value::<PortRange>)]
    pub worker_ports: PortRange,
    /// Limit of all downloads together, in bytes per second, for example 10M [default: none]
    #[arg(long, global = true, env = "RBEE_DOWNLOAD_RATE", value_name = "SIZE", value_parser = byte_count)]
    pub download_rate: Option<u64>,
    /// Time without a byte after which a request of a download counts as stalled
    #[arg(long, global = true, env = "RBEE_DOWNLOAD_STALL", value_name = "SECONDS", default_value_t = 60, value_parser = whole_number(1..=3600_u32))]
    pub download_stall: u32,
    /// Space that downloads leave on the disk
    #[arg(long, global = true, env = "RBEE_DISK_RESERVE", value_name = "SIZE", default_value = "1G", value_parser = byte_count)]
    pub disk_reserve: u64,
    /// Command that suspends this machine, for `rbee-keeper node sleep`
    #[arg(long, global = true, env = "RBEE_SUSPEND_COMMAND", value_name = "COMMAND", default_value = DEFAULT_COMMAND)]
    pub suspend_command: String,
    /// JSON file with a machine to report instead of this one; for tests
    #[arg(long, global = true, value_name = "FILE")]
    pub mock_devices: Option<PathBuf>,
    /// Log level, or a filter such as `info,worker_lifecycle=debug`
    #[arg(long, global = true, env = "RBEE_LOG", default_value = "info", value_name = "FILTER", value_parser = option_value::<LogFilter>)]
    pub log: LogFilter,
}

/// Changes how the hive belongs to a queen on another machine.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Join a queen that cannot reach this machine, with an invitation, and serve; later,
    /// `rbee-hive` alone connects to the queen again
    Join(Join),
    /// Forget the queen that this machine has joined
    Leave,
}

/// Arguments of `rbee-hive join`.
#[derive(Debug, clap::Args)]
pub struct Join {
    /// Address of the queen, for example https://192.0.2.1:8500
    #[arg(long, value_name = "URL", value_parser = option_value::<NodeUrl>)]
    pub queen: NodeUrl,
    /// File with the invitation; `-` reads it from standard input
    #[arg(id = "invitation", long = "token-file", value_name = "FILE")]
    pub invitation: PathBuf,
    /// Send secrets without encryption, in a network that encrypts everything itself
    #[arg(long)]
    pub allow_unencrypted: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn wrong_values_are_refused_with_a_hint() {
        for option in [
            "--port=x",
            "--worker-ports=1",
            "--log=loud",
            "--disk-reserve=x",
            "--download-stall=0",
        ] {
            let error = Args::try_parse_from(["x", option]).unwrap_err().to_string();
            assert!(error.contains("\n\nhint: "), "{error}");
            assert!(!error.contains("invalid digit"), "{error}");
        }
    }
}
