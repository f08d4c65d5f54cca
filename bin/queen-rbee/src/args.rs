use std::{net::IpAddr, path::PathBuf};

use daemon_shell::LogFilter;
use diagnostics::Diagnostic;
use hive_lifecycle::CatalogOptions;
use input_validation::{PortRange, option_value, whole_number};
use queen_nodes::NodeLimits;
use scheduler::SchedulerSettings;

/// Schedules and serves inference on its nodes.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "queen-rbee", version)]
pub struct Args {
    /// Directory for all state [default: ~/.rbee]
    #[arg(long, env = "RBEE_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Address to listen on; one that other machines can reach requires `--api-key-file`
    /// [default: 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,
    /// Port to listen on; 0 selects any free port
    #[arg(long, env = "RBEE_QUEEN_PORT", default_value_t = queen_contract::DEFAULT_PORT, value_parser = whole_number(0..=u16::MAX))]
    pub port: u16,
    /// Port of this machine's hive, if the queen starts one; 0 selects any free port
    #[arg(long, env = "RBEE_HIVE_PORT", default_value_t = 9200, value_parser = whole_number(0..=u16::MAX))]
    pub hive_port: u16,
    /// Ports for workers on this machine, for example 8081-8180; 0 selects any free port
    /// [default: the hive's]
    #[arg(long, env = "RBEE_WORKER_PORTS", value_name = "PORTS", value_parser = option_value::<PortRange>)]
    pub worker_ports: Option<PortRange>,
    /// Catalog of packages for the hives that the queen starts: `https://…` or, for that of this
    /// machine, `file://…` [default: none]
    #[arg(long, env = "RBEE_CATALOG", value_name = "URL")]
    pub catalog: Option<String>,
    /// Public key of minisign that the catalog must be signed with, or a file with it
    #[arg(long, env = "RBEE_CATALOG_KEY", value_name = "KEY|FILE")]
    pub catalog_key: Option<String>,
    /// File with the API key that inference requires
    #[arg(long, env = "RBEE_API_KEY_FILE", value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// The hive binary [default: `rbee-hive` in the directory of this binary]
    #[arg(long, value_name = "FILE")]
    pub hive_binary: Option<PathBuf>,
    /// How long a worker may produce no output and complete no step before it counts as stalled
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = whole_number(1..=u32::MAX))]
    pub worker_silence: u32,
    /// How many requests of one priority may wait for a model, without those that are the only one
    /// of their client
    #[arg(long, env = "RBEE_QUEUE_LIMIT", value_name = "N", default_value_t = SchedulerSettings::default().queue_limit as u32, value_parser = whole_number(1..=100_000_u32))]
    pub queue_limit: u32,
    /// How long a request may wait for memory that other models use
    #[arg(long, env = "RBEE_MEMORY_WAIT", value_name = "SECONDS", default_value_t = SchedulerSettings::default().memory_wait.as_secs() as u32, value_parser = whole_number(1..=u32::MAX))]
    pub memory_wait: u32,
    /// How long a node that is woken may take until its hive responds
    #[arg(long, env = "RBEE_WAKE_LIMIT", value_name = "SECONDS", default_value_t = NodeLimits::default().wake.as_secs() as u32, value_parser = whole_number(1..=3600_u32))]
    pub wake_limit: u32,
    /// Script that changes where requests run, read again when it changes; see docs/policies.md
    /// [default: the script of the directory for all state, if there is one]
    #[arg(long, env = "RBEE_POLICY", value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// How long the SSH server of a node may be silent before its connection counts as lost
    #[arg(long, value_name = "SECONDS", default_value_t = 12, value_parser = whole_number(3..=u32::MAX))]
    pub link_silence: u32,
    /// How long a streamed response may wait before its headers are sent
    #[arg(long, value_name = "MILLISECONDS", hide = true, default_value_t = queen_api::HEADER_GRACE.as_millis() as u64)]
    pub header_grace_ms: u64,
    /// Let requests for models that are not on a node fetch them
    #[arg(long, env = "RBEE_AUTO_PULL")]
    pub auto_pull: bool,
    /// Configuration of the SSH client [default: `~/.ssh/config` and the system's]
    #[arg(long, env = "RBEE_SSH_CONFIG", value_name = "FILE")]
    pub ssh_config: Option<PathBuf>,
    /// Do not start or use a hive on this machine
    #[arg(long)]
    pub no_local_hive: bool,
    /// Origin of a web page (`https://app.example`, `http://localhost:3000`) or an app
    /// (`app://obsidian.md`, `file://`) that may call the inference API from a browser; repeatable
    #[arg(long, value_name = "ORIGIN")]
    pub cors_origin: Vec<String>,
    /// What to log: a level, or a filter such as `info,queen_rbee=debug`
    #[arg(long, env = "RBEE_LOG", default_value = "info", value_name = "FILTER", value_parser = option_value::<LogFilter>)]
    pub log: LogFilter,
}

impl Args {
    /// Returns the catalog of the hives.
    pub(crate) fn catalog(&self) -> Result<Option<CatalogOptions>, Diagnostic> {
        let Some(url) = &self.catalog else {
            return Ok(None);
        };
        CatalogOptions::new(url.clone(), self.catalog_key.clone()).map(Some)
    }

    /// Returns the hive binary.
    pub(crate) fn hive_program(&self) -> Result<PathBuf, Diagnostic> {
        match &self.hive_binary {
            Some(program) => Ok(program.clone()),
            None => Ok(daemon_shell::own_binary()?.with_file_name("rbee-hive")),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn wrong_values_are_refused_with_a_hint() {
        for option in ["--port=x", "--worker-ports=1", "--log=loud"] {
            let error = Args::try_parse_from(["x", option]).unwrap_err().to_string();
            assert!(error.contains("\n\nhint: "), "{error}");
            assert!(!error.contains("invalid digit"), "{error}");
        }
    }
}
