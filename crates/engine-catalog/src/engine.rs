use std::{collections::BTreeMap, path::PathBuf};

use engine_choice::{Availability, Declaration, Format};
use hive_contract::{EngineEntry, EngineSource, ModelFormat, PART_ENGINE};
use worker_contract::EngineKind;

/// The formats of models that engines of a kind load.
pub(crate) const fn formats(kind: EngineKind) -> &'static [Format] {
    match kind {
        EngineKind::LlamaCpp => &[Format::Gguf],
        EngineKind::Vllm => &[Format::Safetensors],
        EngineKind::Ollama | EngineKind::Openai => &[Format::Gguf, Format::Safetensors],
    }
}

/// How an engine runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// It is part of rbee's own workers.
    BuiltIn,
    /// The adapter starts a process. The placeholders of the adapter are in the arguments.
    Command {
        /// Its protocol.
        kind: EngineKind,
        /// Program and arguments.
        command: Vec<String>,
        /// Name of the model in requests to it; that of the file if absent.
        model: Option<String>,
        /// Further variables of its environment.
        environment: BTreeMap<String, String>,
    },
    /// It is no worker: it computes parts of models for the server of llama.cpp on another machine.
    Part {
        /// Program and arguments, with the placeholders `{port}` and `{threads}`.
        command: Vec<String>,
        /// Further variables of its environment.
        environment: BTreeMap<String, String>,
    },
    /// It runs already.
    Attach {
        /// Its protocol.
        kind: EngineKind,
        /// Its URL.
        url: String,
        /// Name of the model in requests to it; that of the file if absent.
        model: Option<String>,
        /// File with the key for requests to it.
        api_key_file: Option<PathBuf>,
    },
}

/// An engine of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// What it can run.
    pub declaration: Declaration,
    /// How it runs.
    pub run: Run,
}

impl Engine {
    /// Describes the engine for users.
    pub fn entry(&self) -> EngineEntry {
        let formats = self.declaration.formats.iter();
        let (kind, place) = match &self.run {
            Run::BuiltIn => (None, None),
            Run::Command { kind, command, .. } => (Some(kind.name()), command.first().cloned()),
            Run::Part { command, .. } => (Some(PART_ENGINE), command.first().cloned()),
            Run::Attach { kind, url, .. } => (Some(kind.name()), Some(url.clone())),
        };
        EngineEntry {
            name: self.declaration.name.clone(),
            source: match (&self.run, &self.declaration.availability) {
                (Run::BuiltIn, _) => EngineSource::BuiltIn,
                (_, Availability::Installed) if self.is_package() => EngineSource::Package,
                _ => EngineSource::Configured,
            },
            kind: kind.map(str::to_owned),
            place,
            formats: formats
                .map(|format| match format {
                    Format::Gguf => ModelFormat::Gguf,
                    Format::Safetensors => ModelFormat::Safetensors,
                })
                .collect(),
            backends: self.declaration.backends.clone(),
            problem: None,
        }
    }

    /// Whether it computes parts of models, and is no worker.
    pub(crate) const fn is_part(&self) -> bool {
        matches!(self.run, Run::Part { .. })
    }

    /// Whether it was installed from a package: then its worker type is that of the package.
    fn is_package(&self) -> bool {
        self.declaration.worker_type.as_str() != preflight_validation::ADAPTER
    }
}
