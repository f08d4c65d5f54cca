use std::{ffi::OsString, path::PathBuf};

use state_files::Home;

/// How a queen is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The `queen-rbee` program.
    pub program: PathBuf,
    /// Where it listens; 0 takes any free port.
    pub port: u16,
    /// Where its local hive listens; absent, the queen's default.
    pub hive_port: Option<u16>,
    /// Ports for its local workers (`8081-8180`); absent, the queen's default.
    pub worker_ports: Option<String>,
}

impl Launch {
    /// The command line behind the program's name.
    pub(crate) fn arguments(&self, home: &Home) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            "--home".into(),
            home.path().into(),
            "--port".into(),
            self.port.to_string().into(),
        ];
        if let Some(port) = self.hive_port {
            arguments.extend(["--hive-port".into(), port.to_string().into()]);
        }
        if let Some(ports) = &self.worker_ports {
            arguments.extend(["--worker-ports".into(), ports.into()]);
        }
        arguments
    }
}
