use std::path::PathBuf;

use daemon_shell::Token;
use diagnostics::{Code, Diagnostic};
use queen_contract::QueenClient;
use queen_lifecycle::{Launch, Queen, QueenLifecycle};
use state_files::Home;

use crate::{cli::Global, failure::Failure};

/// The queen that commands go to.
#[derive(Debug)]
pub enum Target {
    /// The queen of this home; started and stopped from here.
    Own(QueenLifecycle),
    /// A queen somewhere else, as `--queen` says.
    Foreign {
        /// Its address.
        url: String,
        /// Its token, if one was given.
        token: Option<Token>,
    },
}

impl Target {
    /// What the command line asks for.
    pub fn choose(global: &Global) -> Result<Self, Failure> {
        if let Some(url) = &global.queen {
            let token = global.token_file.as_deref().map(Token::load).transpose();
            return Ok(Self::Foreign {
                url: url.clone(),
                token: token.map_err(Failure::Usage)?,
            });
        }
        let launch = Launch {
            program: queen_binary(global)?,
            port: global.queen_port,
            hive_port: global.hive_port,
            worker_ports: global.worker_ports.clone(),
        };
        Ok(Self::Own(QueenLifecycle::new(
            Home::open(global.home.clone())?,
            launch,
        )))
    }

    /// The queen that runs; none is an error.
    pub async fn running(&self) -> Result<QueenClient, Diagnostic> {
        match self {
            Self::Own(lifecycle) => match lifecycle.find().await? {
                Some(queen) => Ok(queen.client),
                None => Err(
                    Diagnostic::new(Code::QueenUnreachable, "no queen is running").hint(
                        "`rbee-keeper queen start` starts it; `rbee-keeper infer` does so itself",
                    ),
                ),
            },
            Self::Foreign { url, token } => connect(url, token.as_ref()).await,
        }
    }

    /// The queen that runs, else one started now; whether it was is told as well.
    pub async fn ensured(&self) -> Result<(QueenClient, bool), Diagnostic> {
        match self {
            Self::Own(lifecycle) => {
                let Queen {
                    client,
                    started_by_us,
                    ..
                } = lifecycle.ensure().await?;
                Ok((client, started_by_us))
            }
            Self::Foreign { url, token } => Ok((connect(url, token.as_ref()).await?, false)),
        }
    }

    /// The queen of this home; with `--queen` that is wrong usage.
    pub fn own(&self) -> Result<&QueenLifecycle, Failure> {
        match self {
            Self::Own(lifecycle) => Ok(lifecycle),
            Self::Foreign { url, .. } => Err(Failure::usage(
                format!("the queen at {url} is not managed from here"),
                "leave out `--queen` and unset `RBEE_QUEEN_URL` to manage the queen of this home",
            )),
        }
    }
}

async fn connect(url: &str, token: Option<&Token>) -> Result<QueenClient, Diagnostic> {
    let connected = queen_lifecycle::connect(url, token.map(|t| t.expose().to_owned())).await;
    connected.map_err(|error| match error.code {
        Code::QueenUnreachable if error.hint.is_none() => {
            error.hint("check the address that `--queen` or `RBEE_QUEEN_URL` names")
        }
        _ => error,
    })
}

/// Programs of rbee are installed side by side.
fn queen_binary(global: &Global) -> Result<PathBuf, Diagnostic> {
    if let Some(path) = &global.queen_binary {
        return std::path::absolute(path).map_err(Diagnostic::internal);
    }
    let own = std::env::current_exe()
        .map_err(|e| Diagnostic::internal(format!("where rbee-keeper is installed: {e}")))?;
    Ok(own.with_file_name("queen-rbee"))
}
