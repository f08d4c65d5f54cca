use std::{net::IpAddr, path::PathBuf};

use daemon_shell::LogFilter;
use input_validation::{NodeName, PortRange, byte_count, option_value, whole_number};

/// Runs workers on this machine
#[derive(Debug, clap::Parser)]
#[command(name = "rbee-hive", version)]
pub struct Args {
    /// Directory for all state [default: ~/.rbee]
    #[arg(long, env = "RBEE_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub bind: IpAddr,
    /// Port to listen on; 0 selects any free port
    #[arg(long, env = "RBEE_HIVE_PORT", default_value_t = 9200, value_parser = whole_number(0..=u16::MAX))]
    pub port: u16,
    /// Name of this node
    #[arg(long, default_value = "local", value_name = "NAME", value_parser = option_value::<NodeName>)]
    pub hive_id: NodeName,
    /// File with the node's token [default: keys/node-local.token in the home, created if missing]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Directory with the worker binaries [default: the directory of this binary]
    #[arg(long, value_name = "DIR")]
    pub worker_dir: Option<PathBuf>,
    /// Ports for workers, for example 8081-8180; 0 selects any free port
    #[arg(long, env = "RBEE_WORKER_PORTS", default_value_t = PortRange::default(), value_name = "PORTS", value_parser = option_value::<PortRange>)]
    pub worker_ports: PortRange,
    /// Limit of all downloads together, in bytes per second, for example 10M [default: none]
    #[arg(long, env = "RBEE_DOWNLOAD_RATE", value_name = "SIZE", value_parser = byte_count)]
    pub download_rate: Option<u64>,
    /// Time without a byte after which a request of a download counts as stalled
    #[arg(long, env = "RBEE_DOWNLOAD_STALL", value_name = "SECONDS", default_value_t = 60, value_parser = whole_number(1..=3600_u32))]
    pub download_stall: u32,
    /// Space that downloads leave on the disk
    #[arg(long, env = "RBEE_DISK_RESERVE", value_name = "SIZE", default_value = "1G", value_parser = byte_count)]
    pub disk_reserve: u64,
    /// JSON file with a machine to report instead of this one; for tests
    #[arg(long, value_name = "FILE")]
    pub mock_devices: Option<PathBuf>,
    /// Log level, or a filter such as `info,worker_lifecycle=debug`
    #[arg(long, env = "RBEE_LOG", default_value = "info", value_name = "FILTER", value_parser = option_value::<LogFilter>)]
    pub log: LogFilter,
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
