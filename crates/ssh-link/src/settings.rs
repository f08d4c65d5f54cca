use std::{path::PathBuf, sync::Arc, time::Duration};

use diagnostics::Diagnostic;
use state_files::Home;

use crate::RuntimeDirectory;

/// Questions without an answer after which a connection is lost.
const ALIVE_COUNT: u32 = 2;

/// How the queen uses SSH. It is the same for all nodes.
#[derive(Debug, Clone)]
pub struct SshSettings {
    /// Configuration of the SSH client instead of the user's and the system's.
    pub config_file: Option<PathBuf>,
    /// Host keys that were accepted for rbee. They are used in addition to the known hosts of
    /// the user, which are never changed.
    pub known_hosts: PathBuf,
    /// Where sockets are created.
    pub runtime: Arc<RuntimeDirectory>,
    /// Longest time to connect and to authenticate.
    pub connect_limit: Duration,
    /// Pauses before the attempts to connect.
    pub attempt_pauses: Vec<Duration>,
    /// Silence of the server after which it is asked whether it is alive, in whole seconds.
    pub alive_interval: Duration,
    /// Questions without an answer after which the connection is lost.
    pub alive_count: u32,
    /// First and longest pause before a lost connection is established again.
    pub reconnect_pauses: (Duration, Duration),
}

impl SshSettings {
    /// The settings of a queen with this home directory.
    pub fn new(home: &Home) -> Result<Self, Diagnostic> {
        Ok(Self {
            config_file: None,
            known_hosts: home.ssh_hosts(),
            runtime: Arc::new(RuntimeDirectory::open(home)?),
            connect_limit: Duration::from_secs(10),
            attempt_pauses: [0, 200, 400].map(Duration::from_millis).to_vec(),
            alive_interval: Duration::from_secs(4),
            alive_count: ALIVE_COUNT,
            reconnect_pauses: (Duration::from_secs(1), Duration::from_secs(30)),
        })
    }

    /// Sets the silence of a server, in seconds, after which the connection is lost.
    #[must_use]
    pub fn with_silence(self, seconds: u32) -> Self {
        // The last question must remain without an answer as well.
        let interval = (seconds / (ALIVE_COUNT + 1)).max(1);
        Self {
            alive_interval: Duration::from_secs(interval.into()),
            ..self
        }
    }
}
