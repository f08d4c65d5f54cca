use std::{fs, path::Path};

use anyhow::Result;
use input_validation::NodeName;
use ssh_server::SshServer;

/// A machine with nothing but an SSH server. Its processes are killed when it is dropped.
#[derive(Debug)]
pub struct Machine {
    pub name: NodeName,
    pub server: SshServer,
}

impl Machine {
    /// Starts the SSH server.
    pub fn start(name: &str) -> Result<Self> {
        Ok(Self {
            name: name.parse()?,
            server: SshServer::start()?,
        })
    }

    /// Installs the mock engine of `bin_dir` beside the hive, which has been installed. The
    /// programs of a release do not include it.
    pub fn install_mock(&self, bin_dir: &Path) -> Result<()> {
        let program = "mock-worker-rbee";
        let installed = self.server.home().join(".rbee/bin/current");
        fs::copy(bin_dir.join(program), installed.join(program))?;
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.server.shut_down();
    }
}
