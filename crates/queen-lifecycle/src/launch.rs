use std::{ffi::OsString, path::PathBuf};

use input_validation::PortRange;
use state_files::Home;

/// Command line of a queen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The `queen-rbee` binary.
    pub program: PathBuf,
    /// Port of the queen; 0 selects any free port.
    pub port: u16,
    /// Port of its local hive; absent, the queen's default.
    pub hive_port: Option<u16>,
    /// Ports for its local workers (`8081-8180`); absent, the queen's default.
    pub worker_ports: Option<PortRange>,
}

impl Launch {
    /// The arguments that follow the binary.
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
            arguments.extend(["--worker-ports".into(), ports.to_string().into()]);
        }
        arguments
    }
}
