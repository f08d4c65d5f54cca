use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use diagnostics::Diagnostic;
use hive_contract::{InstalledModel, ModelDetails, ModelFormat, StoredFiles};
use input_validation::{ModelAlias, ModelRef};
use jiff::Timestamp;
use model_format::ModelHeader;
use serde_json::Map;
use state_files::ModelDirs;
use worker_contract::SamplingValues;

use crate::{
    builtin,
    database::{ModelRow, Rows},
    errors,
    fingerprint::Fingerprint,
    local,
    needs::memory_of,
    rebuild::reconcile,
    resolved::ResolvedModel,
};

/// The models of one machine.
#[derive(Debug)]
pub struct ModelCatalog {
    dirs: ModelDirs,
    database: PathBuf,
    rows: Mutex<Rows>,
    shipped: Vec<(ModelAlias, ModelRef)>,
    notices: Vec<String>,
    // The embedded models do not change, so they are inspected once.
    builtin: OnceLock<Vec<InstalledModel>>,
    /// Models that were reported as replaced while loaded.
    reported: Mutex<BTreeSet<String>>,
}

impl ModelCatalog {
    /// Opens the catalog of the models in `dirs`, with its database in a file. A damaged
    /// database is renamed, and the catalog is rebuilt from the files of the models.
    /// `shipped` are the aliases that are part of rbee.
    ///
    /// Errors: `STATE_TOO_NEW`, `STATE_UNUSABLE`, `DISK_FULL`.
    pub fn open(
        dirs: ModelDirs,
        database: PathBuf,
        shipped: Vec<(ModelAlias, ModelRef)>,
    ) -> Result<Self, Diagnostic> {
        let (mut rows, aside) = Rows::open(&database)?;
        let changes = reconcile(&mut rows, &dirs)?;
        for change in &changes {
            tracing::warn!("{change}");
        }
        let mut notices: Vec<String> = Vec::new();
        if let Some(aside) = aside {
            let notice = errors::rebuilt(&database, &aside, rows.all()?.len());
            tracing::error!("{notice}");
            notices.push(notice);
        } else {
            notices.extend(changes);
        }
        Ok(Self {
            dirs,
            database,
            rows: Mutex::new(rows),
            shipped,
            notices,
            builtin: OnceLock::new(),
            reported: Mutex::default(),
        })
    }

    /// What users should know since the catalog was opened.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    pub(crate) fn dirs(&self) -> &ModelDirs {
        &self.dirs
    }

    pub(crate) fn database(&self) -> &Path {
        &self.database
    }

    pub(crate) fn shipped(&self) -> &[(ModelAlias, ModelRef)] {
        &self.shipped
    }

    pub(crate) fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locates the files of a model, and writes those of an embedded model to disk.
    ///
    /// Errors: `MODEL_NOT_FOUND` if there is no such model or its files cannot be read.
    pub fn resolve(&self, model: &ModelRef) -> Result<ResolvedModel, Diagnostic> {
        match model {
            ModelRef::Builtin { name, variant } => {
                builtin::resolve(name, variant.as_deref(), self.dirs.path())
            }
            ModelRef::Hub { .. } | ModelRef::Ollama { .. } => {
                let found = self.rows().find(model)?;
                let row = found.ok_or_else(|| errors::not_fetched(model))?;
                let path = self.path_of(&row);
                if !path.exists() {
                    return Err(errors::files_gone(model, &path));
                }
                ResolvedModel::at(&path, row.size_bytes)
            }
            ModelRef::File(path) => local::resolve(Path::new(path)),
            ModelRef::Mock(settings) => Ok(ResolvedModel {
                argument: settings.clone(),
                format: ModelFormat::Mock,
                size_bytes: 0,
            }),
        }
    }

    /// Locates the files of a model for a worker, and records that they are used now.
    ///
    /// Errors: those of [`resolve`](Self::resolve).
    pub fn resolve_for_worker(&self, model: &ModelRef) -> Result<ResolvedModel, Diagnostic> {
        let resolved = self.resolve(model)?;
        if matches!(model, ModelRef::Builtin { .. } | ModelRef::Mock(_)) {
            return Ok(resolved);
        }
        // A model can be used although its use cannot be recorded, as on a full disk.
        if let Err(error) = self.record_use(model, &resolved) {
            tracing::warn!(%model, %error, "cannot record the use of a model");
        }
        Ok(resolved)
    }

    fn record_use(&self, model: &ModelRef, resolved: &ResolvedModel) -> Result<(), Diagnostic> {
        let path = Path::new(&resolved.argument);
        let loaded = Fingerprint::of(path).ok();
        let (known, now) = (self.rows().find(model)?, Timestamp::now());
        match known {
            Some(row) if row.directory.is_some() || row.loaded == loaded => {
                self.rows().use_model(&row.model, now, loaded)
            }
            // Files of the user that are new here, or were replaced.
            _ => {
                // The worker reports what is wrong with a header.
                let Ok(header) = model_format::inspect(path) else {
                    return Ok(());
                };
                let row = local::row(model, resolved, header, loaded, now);
                self.rows().save(&row, &[], None)
            }
        }
    }

    pub(crate) fn path_of(&self, row: &ModelRow) -> PathBuf {
        match &row.directory {
            Some(directory) => {
                let files = self.dirs.named(directory).files();
                match row.entry.as_str() {
                    "" => files,
                    entry => files.join(entry),
                }
            }
            None => PathBuf::from(&row.entry),
        }
    }

    /// Lists the embedded models, those that were fetched, and the files of the user that a
    /// worker has loaded and that still exist, sorted by reference. Reads no headers. `loaded`
    /// are the models of running workers.
    pub fn list(&self, loaded: &[ModelRef]) -> Result<Vec<InstalledModel>, Diagnostic> {
        let (rows, pins) = {
            let database = self.rows();
            (database.all()?, database.pins()?)
        };
        let mut also: BTreeMap<ModelRef, Vec<ModelRef>> = BTreeMap::new();
        for pin in pins {
            if pin.reference != pin.model {
                also.entry(pin.model).or_default().push(pin.reference);
            }
        }
        let mut models = self.builtin()?;
        for row in rows {
            let also = also.remove(&row.model).unwrap_or_default();
            let is_loaded = loaded
                .iter()
                .any(|model| *model == row.model || also.contains(model));
            models.extend(self.entry(row, also, is_loaded));
        }
        models.sort_by(|a, b| a.model.cmp(&b.model));
        Ok(models)
    }

    /// The entry of a row; `None` for files of the user that do not exist.
    fn entry(&self, row: ModelRow, also: Vec<ModelRef>, is_loaded: bool) -> Option<InstalledModel> {
        let path = self.path_of(&row);
        let now = Fingerprint::of(&path).ok();
        if now.is_none() && row.directory.is_none() {
            return None;
        }
        let replaced = is_loaded && row.loaded.is_some() && row.loaded != now;
        if replaced {
            self.report_replaced(&row.model);
        }
        let problem = match row.problem {
            Some(problem) => Some(problem),
            None if now.is_none() => Some("its files are missing".to_owned()),
            None => replaced.then(|| errors::REPLACED.to_owned()),
        };
        let fetched = row.directory.is_some();
        Some(InstalledModel {
            model: row.model,
            also,
            format: if row.safetensors {
                ModelFormat::Safetensors
            } else {
                ModelFormat::Gguf
            },
            size_bytes: row.size_bytes,
            architecture: row.architecture,
            quantization: row.quantization,
            context_length: row.context_length,
            parameters: row.parameters,
            sampling: row.sampling,
            files: Some(StoredFiles {
                path: path.to_string_lossy().into_owned(),
                revision: fetched.then_some(row.revision),
                sha256: fetched.then_some(row.sha256),
                added_at: row.added_at,
                last_used_at: row.last_used_at,
                problem,
            }),
        })
    }

    fn report_replaced(&self, model: &ModelRef) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.insert(model.to_string()) {
            tracing::warn!(%model, "{}", errors::REPLACED);
        }
    }

    /// The entry of a model that is on the machine.
    ///
    /// Errors: `MODEL_NOT_FOUND`, `INVALID_MODEL_FILE`, `UNSUPPORTED_QUANTIZATION`.
    pub fn describe(&self, model: &ModelRef) -> Result<InstalledModel, Diagnostic> {
        Ok(self.details(model.clone())?.model)
    }

    fn builtin(&self) -> Result<Vec<InstalledModel>, Diagnostic> {
        if let Some(known) = self.builtin.get() {
            return Ok(known.clone());
        }
        let variants = builtin::variants().map(Some);
        let entries = std::iter::once(None)
            .chain(variants)
            .map(|variant| {
                self.inspect(ModelRef::Builtin {
                    name: builtin::HAIKU.to_owned(),
                    variant: variant.map(str::to_owned),
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(self.builtin.get_or_init(|| entries).clone())
    }

    /// Describes a model that is on the machine, with the metadata of its files.
    ///
    /// Errors: `MODEL_NOT_FOUND`, `INVALID_MODEL_FILE`, `UNSUPPORTED_QUANTIZATION`.
    pub fn details(&self, model: ModelRef) -> Result<ModelDetails, Diagnostic> {
        let resolved = self.resolve(&model)?;
        if resolved.format == ModelFormat::Mock {
            return Ok(mock_details(model));
        }
        let (header, metadata) = model_format::describe(Path::new(&resolved.argument))?;
        let known = self.rows().find(&model)?;
        let entry = known.and_then(|row| {
            let canonical = row.model.clone();
            let also = (canonical != model).then(|| model.clone());
            self.entry(row, also.into_iter().collect(), false)
        });
        Ok(ModelDetails {
            memory: Some(memory_of(&header)),
            model: entry.unwrap_or_else(|| installed(model, &resolved, header)),
            metadata: metadata.values,
            template: metadata.template,
            license: metadata.license,
            remote: None,
        })
    }

    fn inspect(&self, model: ModelRef) -> Result<InstalledModel, Diagnostic> {
        let resolved = self.resolve(&model)?;
        let header = model_format::inspect(Path::new(&resolved.argument))?;
        Ok(installed(model, &resolved, header))
    }
}

fn mock_details(model: ModelRef) -> ModelDetails {
    ModelDetails {
        model: InstalledModel {
            model,
            also: Vec::new(),
            files: None,
            format: ModelFormat::Mock,
            size_bytes: 0,
            architecture: "mock".to_owned(),
            quantization: "none".to_owned(),
            context_length: 0,
            parameters: 0,
            sampling: SamplingValues::default(),
        },
        metadata: Map::new(),
        template: None,
        license: None,
        memory: None,
        remote: None,
    }
}

fn installed(model: ModelRef, resolved: &ResolvedModel, header: ModelHeader) -> InstalledModel {
    InstalledModel {
        model,
        also: Vec::new(),
        files: None,
        format: resolved.format,
        size_bytes: resolved.size_bytes,
        architecture: header.architecture,
        quantization: header.quantization,
        context_length: header.context_length,
        parameters: header.parameters,
        sampling: SamplingValues::recommended(&header.sampling.values).0,
    }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
