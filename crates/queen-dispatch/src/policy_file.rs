//! The script of the user's policy: read from its file, and again when it changes.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use queen_contract::PolicyScript;
use scheduling_policy::{Policy, limits};
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::File,
    io::AsyncReadExt as _,
    time::{MissedTickBehavior, interval},
};

use crate::Dispatcher;

/// How often the file is read. What two reads find is in use: an editor may still write it.
const POLL: Duration = Duration::from_millis(500);

/// The file of the policy, which is watched. Clones refer to the same one.
#[derive(Debug, Clone)]
pub struct PolicyFile(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// That there is no such file is a problem.
    required: bool,
    state: Mutex<State>,
}

/// What is known of the file.
#[derive(Debug, Default)]
struct State {
    script: Option<PolicyScript>,
    problem: Option<String>,
}

/// What a read found.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Absent,
    Bytes(Vec<u8>),
    Unreadable(String),
}

impl PolicyFile {
    /// Has the dispatcher decide by the script in the file, now and whenever it changes. A file that
    /// cannot be used prevents nothing: the script before stays in use, or else the default.
    /// `required`: that there is no such file is a problem.
    pub async fn watch(path: PathBuf, required: bool, dispatcher: Dispatcher) -> Self {
        let file = Self(Arc::new(Shared {
            path,
            required,
            state: Mutex::default(),
        }));
        let first = read(file.path()).await;
        if required || first != Content::Absent {
            file.apply(&first, &dispatcher).await;
        }
        tokio::spawn(file.clone().follow(first, dispatcher));
        file
    }

    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The script in use.
    pub fn script(&self) -> Option<PolicyScript> {
        self.state().script.clone()
    }

    /// Why what is in the file now is not in use.
    pub fn problem(&self) -> Option<String> {
        self.state().problem.clone()
    }

    async fn follow(self, first: Content, dispatcher: Dispatcher) {
        let mut polls = interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut applied = first;
        let mut latest = None;
        loop {
            polls.tick().await;
            let now = read(self.path()).await;
            if now == applied {
                latest = None;
            } else if latest.as_ref() == Some(&now) {
                self.apply(&now, &dispatcher).await;
                applied = now;
                latest = None;
            } else {
                latest = Some(now);
            }
        }
    }

    async fn apply(&self, content: &Content, dispatcher: &Dispatcher) {
        let file = self.path().display();
        match content {
            Content::Absent => {
                *self.state() = State {
                    script: None,
                    problem: Some("it does not exist".to_owned()).filter(|_| self.0.required),
                };
                tracing::warn!(%file, "there is no policy file: the default decides");
                dispatcher.set_policy(None).await;
            }
            Content::Unreadable(error) => self.refuse(&format!("it cannot be read: {error}")),
            Content::Bytes(bytes) => match compile(bytes) {
                Ok(policy) => {
                    let script = PolicyScript {
                        sha256: hex::encode(Sha256::digest(bytes)),
                        loaded_at: Timestamp::now(),
                        routes: policy.routes(),
                        places: policy.places(),
                    };
                    tracing::info!(%file, sha256 = script.sha256, "the policy is in use");
                    dispatcher.set_policy(Some(Arc::new(policy))).await;
                    *self.state() = State {
                        script: Some(script),
                        problem: None,
                    };
                }
                Err(error) => self.refuse(&error),
            },
        }
    }

    fn refuse(&self, problem: &str) {
        self.state().problem = Some(problem.to_owned());
        let stays = match self.script() {
            Some(_) => "the one before stays in use",
            None => "the default decides",
        };
        let file = self.path().display();
        tracing::error!(%file, "the policy cannot be used, {stays}: {problem}");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn compile(bytes: &[u8]) -> Result<Policy, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("it is no text: {error}"))?;
    Policy::compile(text).map_err(|error| error.to_string())
}

/// Reads the file, at most one byte more than a script may have.
async fn read(path: &Path) -> Content {
    let read = async {
        if !tokio::fs::metadata(path).await?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut bytes = Vec::new();
        let limit = limits::SCRIPT_BYTES as u64 + 1;
        let file = File::open(path).await?;
        file.take(limit).read_to_end(&mut bytes).await?;
        Ok(bytes)
    };
    match read.await {
        Ok(bytes) => Content::Bytes(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Content::Absent,
        Err(error) => Content::Unreadable(error.to_string()),
    }
}
