//! A hub with a large model, and hives that are nodes of a queen.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use cluster::{Cluster, HiveProcess};
use hive_contract::{ModelQuery, PullRequest};
use input_validation::ModelRef;
use sim::hub::Hub;
use tempfile::TempDir;

use crate::gate::Gate;

pub const MODEL: &str = "hf:org/repo";
pub const WEIGHTS: &str = "model-Q8_0.gguf";
/// Bytes of the weights beyond those of the embedded model, so that there are many ranges.
const PADDING: usize = 48 << 20;

pub struct Fixture {
    pub hub: Hub,
    pub cluster: Cluster,
    pub directory: TempDir,
    pub size: u64,
}

impl Fixture {
    pub async fn new() -> Self {
        Self::with_token("").await
    }

    /// `token` is the queen's token of the hub.
    pub async fn with_token(token: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let weights = directory.path().join("model.gguf");
        let size = write_weights(&weights);
        let hub = Hub::start().await.unwrap();
        hub.commit("org/repo", [(WEIGHTS, weights)]).unwrap();
        let environment = [("HF_ENDPOINT", &*hub.url()), ("HF_TOKEN", token)];
        let queen = directory.path().join("queen");
        let cluster = Cluster::start(&binaries(), &queen, &environment).await;
        Self {
            cluster: cluster.unwrap(),
            hub,
            directory,
            size,
        }
    }

    /// A node without a model.
    pub async fn node(&self, name: &str) -> HiveProcess {
        let environment = [("HF_ENDPOINT", &*self.hub.url()), ("HF_TOKEN", "")];
        let parent = self.directory.path();
        let hive = HiveProcess::start(&binaries(), parent, name, &environment).await;
        let hive = hive.unwrap();
        self.cluster.add(&hive).await.unwrap();
        hive
    }

    /// Kills a hive and starts it again.
    pub async fn crash(&self, hive: &mut HiveProcess) {
        hive.kill().await.unwrap();
        let environment = [("HF_ENDPOINT", &*self.hub.url()), ("HF_TOKEN", "")];
        hive.restart(&environment).await.unwrap();
    }

    /// A node that has the model.
    pub async fn holder(&self, name: &str) -> HiveProcess {
        let hive = self.node(name).await;
        let (pulled, _) = self.cluster.pull(&hive.name, &request()).await;
        assert_eq!(pulled.unwrap().fetched_bytes, self.size);
        hive
    }

    /// A node that has the model and is reached through a gate.
    pub async fn gated_holder(&self, name: &str) -> (HiveProcess, Gate) {
        let hive = self.holder(name).await;
        let gate = Gate::start(&hive.url).await;
        self.cluster.move_to(&hive, &gate.url).await.unwrap();
        (hive, gate)
    }

    /// Starts a pull to a node and waits until half of the file is sent.
    pub async fn pull_half(&self, target: &HiveProcess, gate: &Gate) {
        gate.hold_after(self.size / 2);
        let client = &self.cluster.client;
        client
            .pull_model(Some(&target.name), &request())
            .await
            .unwrap();
        gate.held().await;
    }

    /// Whether a node has the model, complete and verified.
    pub async fn has_model(&self, hive: &HiveProcess) -> bool {
        let query = ModelQuery { model: model() };
        let details = self.cluster.client.show_model(Some(&hive.name), &query);
        let Some(files) = details.await.unwrap().details.model.files else {
            return false;
        };
        fs::metadata(files.path).unwrap().len() == self.size
    }
}

/// Where cargo puts binaries, or `RBEE_BIN_DIR`.
fn binaries() -> PathBuf {
    std::env::var_os("RBEE_BIN_DIR").map_or_else(
        || {
            let exe = std::env::current_exe().unwrap();
            exe.parent().and_then(Path::parent).unwrap().to_owned()
        },
        PathBuf::from,
    )
}

pub fn model() -> ModelRef {
    MODEL.parse().unwrap()
}

pub fn request() -> PullRequest {
    PullRequest {
        model: model(),
        revision: None,
    }
}

/// Files below a directory that end with `suffix`.
pub fn files(directory: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, suffix));
        } else if path.to_string_lossy().ends_with(suffix) {
            found.push(path);
        }
    }
    found
}

pub fn only_file(directory: &Path, suffix: &str) -> PathBuf {
    let mut found = files(directory, suffix);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn write_weights(path: &Path) -> u64 {
    let haiku = "../../models/haiku/rbee-haiku-tiny-q8_0.gguf";
    let haiku = Path::new(env!("CARGO_MANIFEST_DIR")).join(haiku);
    let mut file = File::create(path).unwrap();
    file.write_all(&fs::read(haiku).unwrap()).unwrap();
    let padding: Vec<u8> = (0..PADDING).map(|n| (n / 4096) as u8).collect();
    file.write_all(&padding).unwrap();
    file.metadata().unwrap().len()
}
