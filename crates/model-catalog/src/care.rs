//! Removal, verification, limits of size, aliases, and copies of the database.

use std::{fs, io, path::Path};

use diagnostics::{Diagnostic, escape};
use hive_contract::{
    AliasEntry, AliasRequest, FileState, Progress, PruneRequest, PruneResponse, PrunedItem,
    RemovedModel, VerifiedFile, VerifyResponse,
};
use hive_jobs::JobContext;
use input_validation::{ModelRef, WorkerId};
use state_files::{ModelDir, ModelFile, ModelRecord, Stored};

use crate::{
    ModelCatalog, builtin,
    database::{ModelRow, Rows},
    errors, hash,
    rebuild::reconcile,
};

/// The models of running workers.
pub type InUse = Vec<(ModelRef, WorkerId)>;

impl ModelCatalog {
    /// Removes the files of a model. Files of the user are forgotten and stay on disk.
    ///
    /// Errors: `MODEL_NOT_FOUND`, `MODEL_IN_USE`, `INVALID_REQUEST` for models without files of
    /// their own.
    pub fn remove(&self, model: &ModelRef, in_use: &InUse) -> Result<RemovedModel, Diagnostic> {
        if matches!(model, ModelRef::Builtin { .. } | ModelRef::Mock(_)) {
            return Err(errors::not_removable(model));
        }
        let row = self.find(model)?;
        let users = self.users(&row.model, in_use)?;
        if !users.is_empty() {
            return Err(errors::in_use(&row.model, &users));
        }
        self.delete(&row)
    }

    fn find(&self, model: &ModelRef) -> Result<ModelRow, Diagnostic> {
        let found = self.rows().find(model)?;
        found.ok_or_else(|| errors::not_fetched(model))
    }

    /// The workers that have loaded a model under any of its names.
    fn users(&self, model: &ModelRef, in_use: &InUse) -> Result<Vec<WorkerId>, Diagnostic> {
        let mut users = Vec::new();
        for (loaded, worker) in in_use {
            let loaded = self.rows().find(loaded)?.map(|row| row.model);
            if loaded.as_ref() == Some(model) {
                users.push(worker.clone());
            }
        }
        Ok(users)
    }

    fn delete(&self, row: &ModelRow) -> Result<RemovedModel, Diagnostic> {
        if let Some(directory) = &row.directory {
            delete_directory(&self.dirs().named(directory))?;
        }
        self.rows().remove(&row.model)?;
        Ok(RemovedModel {
            model: row.model.clone(),
            freed_bytes: row.directory.as_ref().map_or(0, |_| row.size_bytes),
        })
    }

    /// Reads all files of a model and compares them with their hashes. What it finds is shown
    /// in the list, and a pull fetches damaged files again.
    ///
    /// Errors: `MODEL_NOT_FOUND`, `CANCELLED`.
    pub fn verify(
        &self,
        model: &ModelRef,
        context: &JobContext,
    ) -> Result<VerifyResponse, Diagnostic> {
        if !matches!(model, ModelRef::Hub { .. } | ModelRef::Ollama { .. }) {
            return self.verify_unhashed(model);
        }
        let row = self.find(model)?;
        let files = self.rows().files(&row.model)?;
        let directory = row.directory.clone().unwrap_or_default();
        let directory = self.dirs().named(&directory).files();
        let total: u64 = files.iter().map(|file| file.size_bytes).sum();
        let (mut done, mut verified) = (0, Vec::new());
        for file in &files {
            let path = directory.join(&file.path);
            let mut count = |bytes| {
                done += bytes;
                context.reporter.progress(progress("verify", done, total));
            };
            let result = verify_file(&path, file, context, &mut count)?;
            verified.push(result);
        }
        let intact = verified.iter().all(|file| file.state == FileState::Intact);
        let problem = (!intact).then(|| {
            format!("files are damaged or missing; `rbee-keeper model pull {model}` fetches them")
        });
        self.rows().set_problem(&row.model, problem.as_deref())?;
        Ok(VerifyResponse {
            model: row.model,
            intact,
            files: verified,
        })
    }

    /// Files without a known hash are intact if a worker could open them, and if they are the
    /// ones that the last worker opened.
    fn verify_unhashed(&self, model: &ModelRef) -> Result<VerifyResponse, Diagnostic> {
        let resolved = self.resolve(model)?;
        let path = Path::new(&resolved.argument);
        let known = self.rows().find(model)?;
        let changed = known.is_some_and(|row| {
            row.loaded.is_some() && row.loaded != crate::fingerprint::Fingerprint::of(path).ok()
        });
        Ok(VerifyResponse {
            model: model.clone(),
            intact: !changed,
            files: vec![VerifiedFile {
                path: resolved.argument,
                state: if changed {
                    FileState::Damaged
                } else {
                    FileState::Intact
                },
                reason: changed.then(|| "it was replaced since a worker loaded it".to_owned()),
            }],
        })
    }

    /// Removes the fetched models that were not used for the longest time, until the others
    /// have at most the requested size. Models in use are kept.
    pub fn prune(
        &self,
        request: PruneRequest,
        in_use: &InUse,
    ) -> Result<PruneResponse, Diagnostic> {
        let mut rows = self.rows().all()?;
        rows.retain(|row| row.directory.is_some());
        rows.sort_by_key(|row| row.last_used_at.unwrap_or(row.added_at));
        let mut kept: u64 = rows.iter().map(|row| row.size_bytes).sum();
        let limit = request.max_bytes.unwrap_or(u64::MAX);
        let mut removed = Vec::new();
        for row in rows {
            if kept <= limit {
                break;
            }
            if !self.users(&row.model, in_use)?.is_empty() {
                continue;
            }
            if !request.dry_run {
                self.delete(&row)?;
            }
            kept -= row.size_bytes;
            removed.push(PrunedItem {
                name: row.model.to_string(),
                size_bytes: row.size_bytes,
            });
        }
        if request.partial {
            removed.extend(self.prune_partial(request.dry_run)?);
        }
        Ok(PruneResponse {
            removed,
            kept_bytes: kept,
        })
    }

    /// Removes the directories of downloads that did not complete and that no hive continues.
    fn prune_partial(&self, dry_run: bool) -> Result<Vec<PrunedItem>, Diagnostic> {
        let mut removed = Vec::new();
        for dir in self.dirs().existing()? {
            if ModelRecord::read(&dir)? != Stored::Missing {
                continue;
            }
            let Some(_lock) = daemon_shell::FileLock::try_acquire(&dir.lock())? else {
                continue;
            };
            let size_bytes = size_on_disk(dir.path());
            if !dry_run {
                delete_directory(&dir)?;
            }
            removed.push(PrunedItem {
                name: dir.path().to_string_lossy().into_owned(),
                size_bytes,
            });
        }
        Ok(removed)
    }

    /// All aliases in order of their names; those of users take the place of shipped ones.
    pub fn aliases(&self) -> Result<Vec<AliasEntry>, Diagnostic> {
        let own = self.rows().aliases()?;
        let shipped = self.shipped().iter();
        let mut all: Vec<AliasEntry> = shipped
            .filter(|(name, _)| own.iter().all(|(other, _)| other != name))
            .map(|(name, model)| AliasEntry {
                name: name.clone(),
                model: model.clone(),
                shipped: true,
            })
            .collect();
        all.extend(own.into_iter().map(|(name, model)| AliasEntry {
            name,
            model,
            shipped: false,
        }));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Sets or removes an alias.
    ///
    /// Errors: `INVALID_MODEL_REF` for the name of a built-in model, `NOT_FOUND`.
    pub fn set_alias(&self, request: &AliasRequest) -> Result<(), Diagnostic> {
        let AliasRequest { name, model } = request;
        let Some(model) = model else {
            if self.rows().remove_alias(name)? {
                return Ok(());
            }
            let shipped = self.shipped().iter().any(|(other, _)| other == name);
            return Err(if shipped {
                errors::shipped_alias(name)
            } else {
                errors::no_alias(name)
            });
        };
        let base = name.as_str().split(':').next();
        let is_reference = name.as_str().parse::<ModelRef>().is_ok();
        if base == Some(builtin::HAIKU) || is_reference {
            return Err(errors::alias_of_builtin(name));
        }
        self.rows().set_alias(name, model)
    }

    /// Writes a copy of the database, which replaces an existing file.
    ///
    /// Errors: `INVALID_REQUEST` if there is no directory for the file.
    pub fn back_up(&self, target: &Path) -> Result<(), Diagnostic> {
        if !target.parent().is_some_and(Path::is_dir) || target.is_dir() {
            return Err(errors::unusable_copy(
                target,
                "there is no directory for the file",
            ));
        }
        self.rows().copy_to(target)
    }

    /// Replaces the database with a copy, and brings it in line with the files on disk.
    ///
    /// Errors: `INVALID_REQUEST` if there is no such file, `STATE_UNUSABLE` if it is not a copy
    /// of the database, `STATE_TOO_NEW`.
    pub fn restore(&self, source: &Path) -> Result<(), Diagnostic> {
        if !source.is_file() {
            return Err(errors::unusable_copy(source, "there is no such file"));
        }
        let io = |path: &Path, error: io::Error| errors::storage(path, &error);
        // Checked in place of the original, so that a wrong file replaces nothing.
        let candidate = self.database().with_extension("restore");
        fs::copy(source, &candidate).map_err(|e| io(source, e))?;
        let checked = Rows::check(&candidate);
        if checked.is_err() {
            let _ = fs::remove_file(&candidate);
            return checked;
        }
        let mut rows = self.rows();
        // The journal of the replaced database must not be applied to its successor.
        for end in ["db-wal", "db-shm"] {
            let journal = self.database().with_extension(end);
            if journal.exists() {
                fs::remove_file(&journal).map_err(|e| io(&journal, e))?;
            }
        }
        fs::rename(&candidate, self.database()).map_err(|e| io(self.database(), e))?;
        *rows = Rows::open(self.database())?.0;
        for change in reconcile(&mut rows, self.dirs())? {
            tracing::warn!("{change}");
        }
        Ok(())
    }
}

fn verify_file(
    path: &Path,
    file: &ModelFile,
    context: &JobContext,
    count: &mut dyn FnMut(u64),
) -> Result<VerifiedFile, Diagnostic> {
    let (state, reason) = match hash::sha256(path, &context.cancel, count) {
        Ok(None) => return Err(errors::cancelled("the verification")),
        Ok(Some(found)) if found == file.sha256 => (FileState::Intact, None),
        Ok(Some(found)) => {
            let reason = format!("its SHA-256 is {found}, not {}", file.sha256);
            (FileState::Damaged, Some(reason))
        }
        Err(error) => (FileState::Missing, Some(escape(&error.to_string()))),
    };
    Ok(VerifiedFile {
        path: file.path.clone(),
        state,
        reason,
    })
}

pub(crate) fn progress(phase: &str, done: u64, total: u64) -> Progress {
    Progress {
        phase: phase.to_owned(),
        item: None,
        sha256: None,
        done,
        total: Some(total),
        unit: "bytes".to_owned(),
        rate: None,
        eta_seconds: None,
    }
}

/// Deletes the record first: without it, files that remain are an incomplete download.
pub(crate) fn delete_directory(dir: &ModelDir) -> Result<(), Diagnostic> {
    let record = dir.record();
    for result in [
        fs::remove_file(&record).map_err(|e| (record.clone(), e)),
        fs::remove_dir_all(dir.path()).map_err(|e| (dir.path().to_owned(), e)),
    ] {
        match result {
            Err((path, error)) if error.kind() != io::ErrorKind::NotFound => {
                return Err(errors::storage(&path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Size of all files below a directory as far as they are readable, in bytes of disk space.
pub(crate) fn size_on_disk(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_on_disk(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
#[path = "care_tests.rs"]
mod tests;
