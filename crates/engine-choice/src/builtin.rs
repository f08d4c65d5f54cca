use std::collections::BTreeSet;

use diagnostics::{Diagnostic, excerpt};
use input_validation::Backend;
use model_format::{ModelHeader, TensorType, WeightFormat, supported_architectures};

use crate::{Availability, Declaration, Feature, Format, Needs, Support};

/// Name of the engine that is part of rbee.
pub const BUILTIN: &str = "builtin";

/// Returns what the engine of rbee's own workers can run.
///
/// Errors: none that occur; the name of the worker is parsed.
pub fn builtin() -> Result<Declaration, Diagnostic> {
    let formats = [WeightFormat::Gguf, WeightFormat::Safetensors];
    let architectures = formats.map(supported_architectures).concat();
    Ok(Declaration {
        name: BUILTIN.to_owned(),
        // That of the CPU; the one that is started depends on the backend.
        worker_type: "llm-cpu-worker-rbee".parse()?,
        availability: Availability::BuiltIn,
        formats: formats.map(Format::from).into(),
        architectures: Support::only(architectures),
        // The types of safetensors are among those of GGUF.
        tensor_types: Support::only(TensorType::ALL.iter().map(|kind| kind.name())),
        backends: vec![Backend::Cpu, Backend::Cuda, Backend::Metal],
        features: BTreeSet::from([
            Feature::Embeddings,
            Feature::Tools,
            Feature::Reasoning,
            Feature::Constraints,
            Feature::Logprobs,
        ]),
    })
}

impl From<WeightFormat> for Format {
    fn from(format: WeightFormat) -> Self {
        match format {
            WeightFormat::Gguf => Self::Gguf,
            WeightFormat::Safetensors => Self::Safetensors,
        }
    }
}

impl Needs {
    /// Returns what a model needs to generate text on a device of a backend.
    pub fn of_model(header: &ModelHeader, backend: Backend) -> Self {
        let names = supported_architectures(header.format);
        let lacks = if !names.contains(&header.architecture.as_str()) {
            // A name of the other format.
            let name = excerpt(&header.architecture, 40);
            Some(format!(
                "architecture {name} in files of format {}",
                Format::from(header.format)
            ))
        } else if header.causal {
            None
        } else {
            Some("bidirectional attention".to_owned())
        };
        Self {
            format: header.format.into(),
            architecture: header.architecture.clone(),
            tensor_types: header.tensor_types.clone(),
            backend,
            features: BTreeSet::new(),
            not_built_in: lacks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_of_rbee_runs_what_its_loader_supports_and_nothing_else() {
        let engine = builtin().unwrap();
        for format in [WeightFormat::Gguf, WeightFormat::Safetensors] {
            assert!(engine.formats.contains(&format.into()));
            for name in supported_architectures(format) {
                assert!(engine.architectures.includes(name), "{name}");
            }
        }
        assert!(!engine.architectures.includes("mamba"));
        for kind in TensorType::ALL {
            assert!(engine.tensor_types.includes(kind.name()), "{kind:?}");
        }
        assert!(!engine.tensor_types.includes("IQ4_XS"));
        assert!(!engine.features.contains(&Feature::Vision));
    }
}
