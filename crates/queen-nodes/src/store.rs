use std::{
    fs,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use daemon_shell::Token;
use diagnostics::Diagnostic;
use input_validation::{Generation, NodeName, WorkerId};
use queen_store::Store;
use ssh_registry::NodeRegistry;
use state_files::Home;

use crate::errors;

/// The queen's persistent state, for asynchronous code: each call runs on a thread that may
/// block, one at a time for each database.
#[derive(Debug, Clone)]
pub struct QueenState {
    home: Home,
    store: Arc<Mutex<Store>>,
    registry: Arc<Mutex<NodeRegistry>>,
}

impl QueenState {
    /// Opens the state in `home`.
    pub async fn open(home: &Home) -> Result<Self, Diagnostic> {
        let home = home.clone();
        daemon_shell::blocking(move || {
            Ok(Self {
                registry: Arc::new(Mutex::new(NodeRegistry::open(&home)?)),
                store: Arc::new(Mutex::new(Store::open(&home)?)),
                home,
            })
        })
        .await
    }

    /// Returns the port on which the queen listened last.
    pub async fn last_port(&self) -> Result<Option<u16>, Diagnostic> {
        self.call(|store| store.last_port()).await
    }

    pub async fn set_last_port(&self, port: u16) -> Result<(), Diagnostic> {
        self.call(move |store| store.set_last_port(port)).await
    }

    /// Returns the lowest generation that may serve, for every worker that was stopped or
    /// respawned in any run of the queen.
    pub async fn fences(&self) -> Result<Vec<(WorkerId, Generation)>, Diagnostic> {
        self.call(|store| {
            let workers = store.workers()?.into_iter();
            let mut fences = store.fences()?;
            fences.extend(workers.map(|row| (row.worker_id, row.generation)));
            Ok(fences)
        })
        .await
    }

    /// Returns the token of a node that an earlier run of the queen stored.
    pub(crate) async fn token(&self, node: &NodeName) -> Result<Token, Diagnostic> {
        let file = self.home.node_token(node);
        daemon_shell::blocking(move || Token::load(&file)).await
    }

    pub(crate) async fn save_token(
        &self,
        node: &NodeName,
        token: &Arc<Token>,
    ) -> Result<(), Diagnostic> {
        let (file, token) = (self.home.node_token(node), Arc::clone(token));
        daemon_shell::blocking(move || token.save(&file)).await
    }

    pub(crate) async fn remove_token(&self, node: &NodeName) -> Result<(), Diagnostic> {
        let file = self.home.node_token(node);
        daemon_shell::blocking(move || match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(errors::token_not_removed(&file, &error))
            }
            _ => Ok(()),
        })
        .await
    }

    /// Returns the last `lines` lines of the log of the hive on the queen's own machine.
    pub(crate) async fn hive_log(&self, lines: u32) -> Result<String, Diagnostic> {
        let file = self.home.hive_log();
        daemon_shell::blocking(move || {
            last_lines(&file, lines).map_err(|error| errors::log_unreadable(&file, &error))
        })
        .await
    }

    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, Diagnostic> + Send + 'static,
    ) -> Result<T, Diagnostic> {
        on(&self.store, work).await
    }

    pub(crate) async fn registry<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut NodeRegistry) -> Result<T, Diagnostic> + Send + 'static,
    ) -> Result<T, Diagnostic> {
        on(&self.registry, work).await
    }
}

async fn on<D: Send + 'static, T: Send + 'static>(
    database: &Arc<Mutex<D>>,
    work: impl FnOnce(&mut D) -> Result<T, Diagnostic> + Send + 'static,
) -> Result<T, Diagnostic> {
    let database = Arc::clone(database);
    daemon_shell::blocking(move || {
        // A panic in another call has rolled back its transaction and changed nothing else.
        let mut database = database.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut database)
    })
    .await
}

/// Maximum size of the part of a log that is searched for its last lines.
const LOG_BYTES: u64 = 1 << 20;

fn last_lines(file: &Path, lines: u32) -> io::Result<String> {
    let mut file = fs::File::open(file)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(LOG_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.split_inclusive('\n').collect();
    Ok(all[all.len().saturating_sub(lines as usize)..].concat())
}
