use std::{net::IpAddr, path::PathBuf};

/// Schedules and serves inference on the machines it knows.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "queen-rbee", version)]
pub struct Args {
    /// Folder for all state [default: ~/.rbee]
    #[arg(long, env = "RBEE_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Address to listen on; one that is not loopback needs `--api-key-file`
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub bind: IpAddr,
    /// Port to listen on; 0 is any free one
    #[arg(long, env = "RBEE_QUEEN_PORT", default_value_t = queen_contract::DEFAULT_PORT)]
    pub port: u16,
    /// Port of this machine's hive, when one is started; 0 is any free one
    #[arg(long, env = "RBEE_HIVE_PORT", default_value_t = 9200)]
    pub hive_port: u16,
    /// Ports for workers on this machine [default: the hive's]
    #[arg(long, env = "RBEE_WORKER_PORTS", value_name = "FIRST-LAST")]
    pub worker_ports: Option<String>,
    /// File with the key that inference needs
    #[arg(long, env = "RBEE_API_KEY_FILE", value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// The hive program [default: `rbee-hive` beside this program]
    #[arg(long, value_name = "FILE")]
    pub hive_binary: Option<PathBuf>,
    /// How long a worker may give nothing and finish no step before it is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub worker_silence: u32,
    /// Start and use no hive on this machine
    #[arg(long)]
    pub no_local_hive: bool,
    /// Origin that may call the inference API, of a web page (`https://app.example`) or an
    /// app (`app://obsidian.md`); repeatable
    #[arg(long, value_name = "ORIGIN")]
    pub cors_origin: Vec<String>,
    /// What to log: a level, or a filter such as `info,queen_rbee=debug`
    #[arg(long, env = "RBEE_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}
