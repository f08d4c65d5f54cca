use std::path::PathBuf;

use daemon_shell::Token;
use diagnostics::Diagnostic;
use queen_contract::QueenClient;
use queen_lifecycle::{Launch, Queen, QueenLifecycle};
use state_files::Home;

use crate::{cli::Global, errors, failure::Failure};

/// The queen that commands are sent to.
#[derive(Debug)]
pub(crate) enum Target {
    /// The queen of `--home`, which the keeper starts and stops.
    Managed(QueenLifecycle),
    /// The queen specified with `--queen`, which the keeper neither starts nor stops.
    External { url: String, token: Option<Token> },
}

impl Target {
    /// Selects the queen that the global options describe.
    pub(crate) fn select(global: &Global) -> Result<Self, Failure> {
        if let Some(url) = &global.queen {
            let token = global.token_file.as_deref().map(Token::load).transpose();
            return Ok(Self::External {
                url: url.clone(),
                token: token.map_err(Failure::Usage)?,
            });
        }
        Ok(Self::Managed(QueenLifecycle::new(
            Home::open(global.home.clone())?,
            launch(global)?,
        )))
    }

    /// Returns a client of the running queen; an error if none is running.
    pub(crate) async fn running(&self) -> Result<QueenClient, Diagnostic> {
        match self {
            Self::Managed(lifecycle) => match lifecycle.find().await? {
                Some(queen) => Ok(queen.client),
                None => Err(errors::no_queen()),
            },
            Self::External { url, token } => connect(url, token.as_ref()).await,
        }
    }

    /// Returns a client of the running queen, and whether this call started the queen.
    pub(crate) async fn ensure_running(&self) -> Result<(QueenClient, bool), Diagnostic> {
        match self {
            Self::Managed(lifecycle) => {
                let Queen {
                    client,
                    started_by_us,
                    ..
                } = lifecycle.ensure().await?;
                Ok((client, started_by_us))
            }
            Self::External { url, token } => Ok((connect(url, token.as_ref()).await?, false)),
        }
    }

    /// Returns the queen of `--home`; a usage error with `--queen`.
    pub(crate) fn managed(&self) -> Result<&QueenLifecycle, Failure> {
        match self {
            Self::Managed(lifecycle) => Ok(lifecycle),
            Self::External { url, .. } => Err(Failure::Usage(errors::queen_not_managed(url))),
        }
    }
}

/// Returns the command line of a queen that is started.
pub(crate) fn launch(global: &Global) -> Result<Launch, Diagnostic> {
    Ok(Launch {
        program: queen_binary(global)?,
        port: global.queen_port,
        hive_port: global.hive_port,
        worker_ports: global.worker_ports,
    })
}

async fn connect(url: &str, token: Option<&Token>) -> Result<QueenClient, Diagnostic> {
    queen_lifecycle::connect(url, token.map(|t| t.expose().to_owned()))
        .await
        .map_err(errors::with_address_hint)
}

/// Returns the path of the queen binary, by default in the directory of the keeper binary.
fn queen_binary(global: &Global) -> Result<PathBuf, Diagnostic> {
    let path = match &global.queen_binary {
        Some(path) => std::path::absolute(path),
        None => std::env::current_exe().map(|keeper| keeper.with_file_name("queen-rbee")),
    };
    path.map_err(|e| errors::queen_binary_not_located(&e))
}
