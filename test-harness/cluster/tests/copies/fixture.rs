//! A hub with a large model, and hives that are nodes of a queen.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bdd::binary;
use cluster::{Cluster, HiveProcess};
use hive_contract::{ModelQuery, PullRequest};
use input_validation::ModelRef;
use sim::hub::Hub;
use tempfile::TempDir;

pub const MODEL: &str = "hf:org/repo";
pub const WEIGHTS: &str = "model-Q8_0.gguf";
/// Bytes of the weights beyond those of the embedded model, so that there are many ranges.
const PADDING: usize = 48 << 20;

pub struct Fixture {
    pub hub: Hub,
    pub cluster: Cluster,
    pub directory: Arc<TempDir>,
    pub size: u64,
}

impl Fixture {
    pub async fn new() -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let weights = directory.path().join("model.gguf");
        let size = write_weights(&weights);
        let hub = Hub::start().await.unwrap();
        hub.commit("org/repo", [(WEIGHTS, weights)]).unwrap();
        let queen = directory.path().join("queen");
        fs::create_dir(&queen).unwrap();
        Self {
            cluster: Cluster::start(&queen).await.unwrap(),
            hub,
            directory,
            size,
        }
    }

    /// Starts a hive that is not yet a node. `token` is its token of the hub.
    pub async fn hive(&self, name: &str, token: &str) -> HiveProcess {
        let endpoint = self.hub.url();
        let environment = [("HF_ENDPOINT", endpoint.as_str()), ("HF_TOKEN", token)];
        let program = binary("rbee-hive");
        let parent = self.directory.path();
        let hive = HiveProcess::start(&program, parent, name, &environment);
        hive.await.unwrap()
    }

    /// Starts a hive again after a crash.
    pub async fn restart(&self, hive: HiveProcess) -> HiveProcess {
        let endpoint = self.hub.url();
        let environment = [("HF_ENDPOINT", endpoint.as_str()), ("HF_TOKEN", "")];
        let program = binary("rbee-hive");
        let restarted = hive.crash_and_restart(&program, &environment);
        restarted.await.unwrap()
    }

    /// A node that fetched the model from the hub.
    pub async fn holder(&self, name: &str) -> HiveProcess {
        let hive = self.hive(name, "").await;
        self.cluster.add(&hive).await.unwrap();
        let (pulled, _) = self.cluster.pull(&hive.name, &request()).await;
        assert_eq!(pulled.unwrap().fetched_bytes, self.size);
        hive
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

    /// Requests for content of files that the hub received.
    pub fn fetched_from_hub(&self) -> usize {
        let received = self.hub.received();
        let is_content = |path: &str| path.contains("/resolve/");
        received.iter().filter(|r| is_content(&r.path)).count()
    }
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
