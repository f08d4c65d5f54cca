use std::{path::Path, sync::Arc};

use daemon_shell::blocking;
use diagnostics::Diagnostic;
use hive_contract::ModelFormat;
use input_validation::ModelRef;
use preflight_validation::ModelFacts;

use crate::{ModelCatalog, Puller, sources::is_remote};

impl ModelCatalog {
    /// Reads from the header of a model on the machine what it needs.
    ///
    /// Errors: `MODEL_NOT_FOUND`, `INVALID_MODEL_FILE`, `UNSUPPORTED_QUANTIZATION`.
    pub fn facts(&self, model: &ModelRef) -> Result<ModelFacts, Diagnostic> {
        let resolved = self.resolve(model)?;
        if resolved.format == ModelFormat::Mock {
            return Ok(ModelFacts::mock(model.clone()));
        }
        let header = model_format::inspect(Path::new(&resolved.argument))?;
        Ok(ModelFacts::from_header(model.clone(), &header, 0))
    }
}

impl Puller {
    /// Reads what a model needs from its header, on the machine or else at its source.
    ///
    /// Errors: those of [`ModelCatalog::facts`] and
    /// [`ModelVendor::resolve`](model_vendors::ModelVendor::resolve).
    pub async fn facts(&self, model: ModelRef) -> Result<ModelFacts, Diagnostic> {
        let (catalog, asked) = (Arc::clone(&self.sources.catalog), model.clone());
        let known = blocking(move || {
            if !is_remote(&asked) || catalog.rows().find(&asked)?.is_some() {
                return catalog.facts(&asked).map(Ok);
            }
            let pin = catalog.rows().pinned(&asked)?;
            Ok(Err(pin.map(|pin| pin.revision)))
        });
        match known.await? {
            Ok(facts) => Ok(facts),
            Err(revision) => {
                let manifest = self.sources.resolve(&model, revision.as_deref()).await?;
                let size = manifest.size();
                Ok(ModelFacts::from_header(
                    manifest.model,
                    &manifest.header,
                    size,
                ))
            }
        }
    }
}
