use std::path::Path;

use anyhow::{Result, bail, ensure};
use cluster::{Cluster, Machine};
use diagnostics::Diagnostic;
use input_validation::ModelRef;
use tempfile::TempDir;

use crate::load::{self, End};

/// A request takes 0.2 s; a worker has a slot for each client.
const MODEL: &str = "mock:slots=16,tokens_per_second=100,length=20";

/// A queen without a hive of its own, and two machines that it reaches by SSH. Each has one worker
/// that serves [`Fleet::model`].
pub(crate) struct Fleet {
    pub(crate) cluster: Cluster,
    /// The machine that fails.
    pub(crate) attic: Machine,
    /// The machine that does not fail.
    pub(crate) cellar: Machine,
    pub(crate) model: ModelRef,
    /// The text of every response.
    pub(crate) text: String,
    _directory: TempDir,
}

impl Fleet {
    pub(crate) async fn start(bin_dir: &Path, arguments: &[&str]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("rbee-soak-").tempdir()?;
        let arguments = [&["--no-local-hive"], arguments].concat();
        let home = directory.path().join("queen");
        let cluster = Cluster::start_with(bin_dir, &home, &[], &arguments).await?;
        let (attic, cellar) = (Machine::start("attic")?, Machine::start("cellar")?);
        let model: ModelRef = MODEL.parse()?;
        let mut texts = Vec::new();
        for machine in [&attic, &cellar] {
            cluster.add_machine(machine).await?;
            machine.install_mock(bin_dir)?;
            let call = load::call("first", &model, Some(&machine.name))?;
            match load::send(&cluster.client, &call).await.end {
                End::Complete(text) => texts.push(text),
                other => bail!("the first request to {}: {other:?}", machine.name),
            }
        }
        ensure!(
            texts[0] == texts[1] && !texts[0].is_empty(),
            "the machines respond differently: {texts:?}"
        );
        Ok(Self {
            cluster,
            attic,
            cellar,
            model,
            text: texts.swap_remove(0),
            _directory: directory,
        })
    }

    /// Whether an error names the machine that fails.
    pub(crate) fn is_named_in(&self, error: &Diagnostic) -> bool {
        let name = format!("node {}", self.attic.name);
        error.message.contains(&name)
    }
}
