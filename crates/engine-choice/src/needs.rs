use std::{collections::BTreeSet, fmt};

use diagnostics::excerpt;
use input_validation::Backend;

use crate::{Declaration, Feature, Format};

/// Longest name from a model file that is shown, in characters.
const NAME_CHARS: usize = 40;

/// What a model, a device and a request need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Format of the model's files.
    pub format: Format,
    /// Architecture that the header names; untrusted text.
    pub architecture: String,
    /// Types of its tensors; untrusted text.
    pub tensor_types: BTreeSet<String>,
    /// Backend of the device.
    pub backend: Backend,
    /// What the user wants to do with it.
    pub features: BTreeSet<Feature>,
    /// What the built-in engine lacks for this model although it supports the architecture, such
    /// as bidirectional attention.
    pub not_built_in: Option<String>,
}

/// Something that an engine lacks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gap {
    /// The format of the files.
    Format(Format),
    /// The architecture.
    Architecture(String),
    /// A type of tensors.
    TensorType(String),
    /// The backend of the device.
    Backend(Backend),
    /// A feature.
    Feature(Feature),
    /// Another property of the model.
    Other(String),
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(format) => write!(f, "files of format {format}"),
            Self::Architecture(name) => write!(f, "architecture {}", excerpt(name, NAME_CHARS)),
            Self::TensorType(name) => write!(f, "tensor type {}", excerpt(name, NAME_CHARS)),
            Self::Backend(backend) => write!(f, "backend {backend}"),
            Self::Feature(feature) => write!(f, "{feature}"),
            Self::Other(what) => f.write_str(&excerpt(what, 200)),
        }
    }
}

impl Needs {
    /// What an engine lacks, in a fixed order. It can run the model if there is nothing.
    pub fn gaps(&self, engine: &Declaration) -> Vec<Gap> {
        let mut gaps = Vec::new();
        if !engine.formats.contains(&self.format) {
            gaps.push(Gap::Format(self.format));
        }
        if !engine.architectures.includes(&self.architecture) {
            gaps.push(Gap::Architecture(self.architecture.clone()));
        }
        let types = self.tensor_types.iter();
        let missing = types.filter(|name| !engine.tensor_types.includes(name));
        gaps.extend(missing.cloned().map(Gap::TensorType));
        if !engine.backends.contains(&self.backend) {
            gaps.push(Gap::Backend(self.backend));
        }
        let missing = self.features.difference(&engine.features);
        gaps.extend(missing.copied().map(Gap::Feature));
        if let Some(what) = &self.not_built_in
            && engine.availability == crate::Availability::BuiltIn
            && gaps.is_empty()
        {
            gaps.push(Gap::Other(what.clone()));
        }
        gaps
    }
}
